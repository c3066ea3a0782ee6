// Random numbers that a seed repeats, whichever VU draws them.

// A source of numbers in [0, 1), one for each key (mulberry32, seeded by an FNV-1a hash).
export function seeded(key) {
  let state = 2166136261;
  for (let i = 0; i < key.length; i += 1) {
    state = Math.imul(state ^ key.charCodeAt(i), 16777619);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function exponential(random) {
  return -Math.log(1 - random());
}

export function normal(random) {
  return Math.sqrt(2 * exponential(random)) * Math.cos(2 * Math.PI * random());
}

// Gamma with that shape and mean 1 (Marsaglia and Tsang, 2000).
export function gamma(random, shape) {
  if (shape < 1) {
    // A gamma of shape k + 1, times u^(1/k), has shape k.
    return (gamma(random, shape + 1) * (shape + 1) * (1 - random()) ** (1 / shape)) / shape;
  }
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random);
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d - d * v + d * Math.log(v)) {
      return (d * v) / shape;
    }
  }
}
