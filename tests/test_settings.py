"""Flags and the models file: what they set, and one line for everything that is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from predictor.connection_flags import GrpcKeepalive
from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.models_file import MAX_MODELS
from predictor.settings import LIMITS, Settings, parse_settings


def refusal(*arguments: str) -> str:
    with pytest.raises(StartupError) as caught:
        parse_settings(arguments)
    message = caught.value.message
    assert "\n" not in message
    return message


def models_file(folder: Path, text: str) -> str:
    path = folder / "models.yaml"
    path.write_text(text)
    return f"--models={path}"


def test_no_flags_give_the_defaults() -> None:
    assert parse_settings([]) == Settings(models=(ModelSettings(name="model"),))


def test_every_flag_is_kept() -> None:
    settings = parse_settings(
        [
            "--model_name=sim-1",
            "--task=simulated",
            "--model_dir=/mnt/models",
            "--model_id=org/name",
            "--device=cuda:1",
            "--dtype=bfloat16",
            "--simulated_fixed_ms=2.5",
            "--simulated_token_us=20",
            "--simulated_packed=true",
            "--parameters=configmap:headway-parameters",
            "--parameters_fallback=/etc/headway/parameters.yaml",
            "--host=127.0.0.1",
            "--http_port=9080",
            "--grpc_port=9081",
            "--enable_grpc=false",
            "--workers=4",
            "--engines=2",
            "--max_threads=2",
            "--max_asyncio_workers=3",
            "--timeout-keep-alive=5",
            "--grpc_max_send_message_length=2048",
            "--max_body_bytes=4096",
            "--body_idle_s=3.5",
            "--header_timeout_s=4.5",
            "--max_connections=100",
            "--max_connections_per_client=9",
            "--grpc_keepalive_time=1000",
            "--grpc-keepalive-timeout=2000",
            "--grpc_keepalive_permit_without_calls=false",
            "--grpc-http2-max-ping-strikes=5",
            "--grpc_max_connection_age=60000",
            "--max_rows=7",
            "--grace_s=1.5",
            "--batch_timeout_s=9",
            "--redis_url=redis://127.0.0.1:6379/0",
            "--job_keep_s=60",
            "--job_lease_s=5",
        ]
    )
    model = ModelSettings(
        name="sim-1",
        task=Task.SIMULATED,
        model_dir="/mnt/models",
        model_id="org/name",
        device="cuda:1",
        dtype="bfloat16",
        simulated_fixed_ms=2.5,
        simulated_token_us=20.0,
        simulated_packed=True,
    )
    assert settings == Settings(
        models=(model,),
        parameters="configmap:headway-parameters",
        parameters_fallback="/etc/headway/parameters.yaml",
        host="127.0.0.1",
        http_port=9080,
        grpc_port=9081,
        enable_grpc=False,
        workers=4,
        engines=2,
        max_threads=2,
        max_asyncio_workers=3,
        timeout_keep_alive=5,
        grpc_max_send_message_length=2048,
        max_body_bytes=4096,
        body_idle_s=3.5,
        header_timeout_s=4.5,
        max_connections=100,
        max_connections_per_client=9,
        grpc_keepalive=GrpcKeepalive(
            grpc_keepalive_time=1000,
            grpc_keepalive_timeout=2000,
            grpc_keepalive_permit_without_calls=False,
            grpc_http2_max_ping_strikes=5,
            grpc_max_connection_age=60_000,
        ),
        max_rows=7,
        grace_s=1.5,
        batch_timeout_s=9.0,
        redis_url="redis://127.0.0.1:6379/0",
        job_keep_s=60.0,
        job_lease_s=5.0,
    )


def test_there_is_an_engine_for_each_device_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for seen, engines in (("0,1,2", 3), ("", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        assert parse_settings(["--engines=auto"]).engines == engines


def test_labels_are_split_and_trimmed() -> None:
    (model,) = parse_settings(["--labels=world news, sports"]).models
    assert model.labels == ("world news", "sports")


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--task=translation", "--task"),
        ("--labels=a,,b", "--labels"),
        ("--redis_url=localhost", "--redis_url: must begin with redis://"),
        ("--redis_url=redis://:s3cret@host", "HEADWAY_REDIS_PASSWORD"),
        ("--redis_url=redis://me:s3/cret@host", "HEADWAY_REDIS_PASSWORD"),
        ("--redis_url=rediss://:s3cret#@host:6379/0", "HEADWAY_REDIS_PASSWORD"),
        ("--redis_url=unix://:s3cret@/run/redis.sock", "HEADWAY_REDIS_PASSWORD"),
        ("--redis_url=redis://host/0?password=s3cret", "HEADWAY_REDIS_PASSWORD"),
        ("--labels=", "--labels"),
        ("--model_name=a/b", "--model_name"),
        ("--model_name=", "--model_name"),
        ("--simulated_fixed_ms=fast", "--simulated_fixed_ms"),
        ("--simulated_packed=maybe", "--simulated_packed"),
        ("--simulated_token_us=1", "--simulated_token_us is for the task simulated"),
        ("--enable_grpc=maybe", "--enable_grpc: must be true or false"),
        ("--host=http://here", "--host"),
        ("--http_port=none", "--http_port"),
        ("--grpc_port=8080", "--grpc_port is 8080, as is --http_port"),
        ("--grace_s=nan", "--grace_s is nan"),
        ("--workers=two", "--workers"),
        ("--engines=all", "--engines: must be a number or auto, not 'all'"),
        ("--parameters=configmap:Headway", "'configmap:Headway' names no ConfigMap"),
        ("--parameters_fallback=a.yaml", "is for --parameters=configmap:NAME alone"),
        ("--ssl_keyfile=key.pem", "--ssl_certfile and --ssl_keyfile"),
        ("--modelname=x", "--modelname=x"),
        ("--http_por=80", "--http_por=80"),
    ],
)
def test_a_bad_value_is_refused_by_name(argument: str, named: str) -> None:
    assert named in refusal(argument)


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_have_limits(name: str) -> None:
    least, most = LIMITS[name]
    flag = "--timeout-keep-alive" if name == "timeout_keep_alive" else f"--{name}"
    assert f"{flag} is " in refusal(f"{flag}={int(least) - 1}")
    assert f"to {most:.12g}" in refusal(f"{flag}={int(most) + 1}")


def test_tls_files_must_exist(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.touch()
    missing = tmp_path / "key.pem"
    named = refusal(f"--ssl_certfile={certificate}", f"--ssl_keyfile={missing}")
    assert "--ssl_keyfile" in named
    missing.touch()
    settings = parse_settings([f"--ssl_certfile={certificate}", f"--ssl_keyfile={missing}"])
    assert settings.ssl_certfile == str(certificate)


def test_a_models_file_gives_each_model_its_own_settings(tmp_path: Path) -> None:
    flag = models_file(
        tmp_path,
        """
        - {name: topics, labels: [sports, politics]}
        - {name: sim, task: simulated, simulated_fixed_ms: 1, simulated_packed: true}
        """,
    )
    assert parse_settings([flag]).models == (
        ModelSettings(name="topics", labels=("sports", "politics")),
        ModelSettings(
            name="sim", task=Task.SIMULATED, simulated_fixed_ms=1.0, simulated_packed=True
        ),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "must be a list of 1 to"),
        ("[]", "must be a list of 1 to"),
        ("name: topics", "must be a list of 1 to"),
        ("[1]", "[0]: "),
        ("- {task: topic}", "[0]: "),
        ("- {name: a, labels: sports}", "[0].labels: "),
        ("- {name: a, task: none}", "[0].task: "),
        ("- {name: a, colour: red}", "colour"),
        ("- {name: a}\n- {name: b, simulated_token_us: fast}", "[1].simulated_token_us: "),
        ("- {name: a, simulated_fixed_ms: 1}", "[0].simulated_fixed_ms is for the task simulated"),
        ("- {name: a b}", "[0].name is 'a b'"),
        ("- {name: a}\n- {name: a}", "[1].name is 'a', which an entry before has"),
        ("- [", "not YAML"),
        ("\x00", "not YAML"),
        ("\n".join(f"- {{name: m{n}}}" for n in range(MAX_MODELS + 1)), "must be a list of 1 to"),
        ("#" * (1 << 21), "is over"),
    ],
)
def test_a_bad_models_file_is_refused_by_field(tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal(models_file(tmp_path, text))


def test_a_missing_models_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(f"--models={tmp_path / 'none.yaml'}")


def test_flags_of_one_model_cannot_be_mixed_with_a_models_file(tmp_path: Path) -> None:
    flag = models_file(tmp_path, "- {name: a}")
    for extra in ("--model_name=a", "--task=topic", "--device=cpu", "--simulated_packed=false"):
        assert extra.partition("=")[0] in refusal(flag, extra)


# The SDK reads the same command line while it is imported, and would complain before we do.
@pytest.mark.parametrize("argument", ["--http_port=none", "--task=translation"])
def test_the_process_says_one_line_and_exits_with_2(argument: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "predictor", argument],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert argument.partition("=")[0] in ended.stderr
    assert ended.stderr.count("\n") == 1
