"""Texts in which tokenizers differ: spaces, case, accents, scripts, controls, special tokens."""

PLAIN_TEXTS = (
    "",
    " ",
    "Hello, World! don't stop.",
    "  leading,  double  and trailing  spaces  ",
    "tabs\tand\nlines\r\nand\u00a0others\u2003here",
    "ALL CAPS mixedCase İstanbul ıI Straße ΣΊΣΥΦΟΣ",
    "ÀÉÎõü naïve cafe\u0301 Ångström ñandú đ ł",
    "ﬁ ﬂ Ⅷ ½ ① Ａｂｃ １２３ ℌ 𝒳",
    "中文字符 混合abc 日本語テスト ｶﾀｶﾅ 한국어 조합",
    "हिन्दी العَرَبِيَّة עברית ไทย",
    "emoji 😀 👩\u200d👩\u200d👧 🇩🇪 ☺\ufe0f",
    "zero\u200bwidth \ufeff bom \u00adsoft \u202eright",
    "controls \x00 \x07 \x1b \x7f \ufffd",
    "1,000.50 € 50% 3-4 #tag @name user@example.com https://a.b/c?d=e&f=g",
    "under_score CamelCase snake-case 'quotes' “curly” `tick` ... … —",
    "▁ ## ##ing Ġword </w> <0x0A> \\n",
    "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 3,
    "x" * 250,
)
PROBE_TEXTS = (
    *PLAIN_TEXTS,
    "[CLS] [SEP] [PAD] [UNK] [MASK] <s> </s> <pad> <unk> <mask> <cls> <sep>",
    "a[SEP]b [MASK], <mask>. <pad><pad>",
)
