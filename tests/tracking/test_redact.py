import pytest

from sisr.tracking.redact import HIDDEN, is_secret_name, redact, redact_text


@pytest.mark.parametrize(
    "name",
    ["password", "api_token", "HF_TOKEN", "apiKey", "aws_secret_access_key", "db.password", "client-secret", "API_KEY"],
)
def test_secret_names_are_recognised(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokenizer", "author", "authors", "max_tokens", "key", "keypoints", "monkey", "compass"]
)
def test_harmless_names_survive(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1B2" * 9,
        "hf_" + "abcDEF" * 6,
        "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_known_forms_are_hidden_inside_text(secret):
    assert redact_text(f"before {secret} after") == f"before {HIDDEN} after"


def test_password_of_an_address_is_hidden_and_the_host_stays():
    assert redact_text("https://me:pa@ss@host:5000/x") == f"https://{HIDDEN}@host:5000/x"


def test_values_after_secret_names_in_text_are_hidden():
    text = redact_text("POST ?api_key=abc123&size=4 --token abcdef password: hunter2, tokenizer=bpe author=me")
    assert not any(word in text for word in ("abc123", "abcdef", "hunter2"))
    assert "tokenizer=bpe author=me" in text
    assert "size=4" in text


def test_nested_settings_are_redacted_and_others_kept():
    settings = {"data": {"password": "x", "author": "me", "urls": ["s3://k:v@b"]}, "steps": 5, "tokenizer": "bpe"}
    clean = redact(settings)
    assert clean == {
        "data": {"password": HIDDEN, "author": "me", "urls": [f"s3://{HIDDEN}@b"]},
        "steps": 5,
        "tokenizer": "bpe",
    }


def test_plain_addresses_and_paths_are_left_alone():
    for text in ("sqlite:////home/me/runs/mlflow.db", "http://127.0.0.1:5000/#/experiments/1", "a@b.org", "12:30"):
        assert redact_text(text) == text
