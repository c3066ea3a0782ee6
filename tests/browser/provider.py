"""An OpenID Connect provider with one user, who is logged in there already."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "dashboard"
EMAIL = "ada@example.org"
TOKEN_LIFE_S = 600


class Provider:
    """Discovery, keys, a login that asks nothing, and tokens for the code that it gave."""

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(parameters={"kid": "1", "alg": "RS256", "use": "sig"})
        self._nonces: dict[str, str] = {}  # by the code of a login
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                if asked.path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", provider.login(parse_qs(asked.query)))
                    self.end_headers()
                else:
                    self.answer({"/openid": provider.discovery(), "/keys": provider.keys()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer({"/token": provider.token(parse_qs(body.decode()))})

            def answer(self, documents: dict[str, Any]) -> None:
                found = documents.get(urlsplit(self.path).path)
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def keys(self) -> dict[str, Any]:
        return {"keys": [self._key.as_dict(private=False)]}

    def login(self, asked: dict[str, list[str]]) -> str:
        """Where the browser goes back to."""
        code = secrets.token_urlsafe()
        self._nonces[code] = asked["nonce"][0]
        answer = urlencode({"code": code, "state": asked["state"][0]})
        return f"{asked['redirect_uri'][0]}?{answer}"

    def token(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        now_s = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "1",
            "email": EMAIL,
            "nonce": self._nonces.pop(asked["code"][0]),
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
        }
        return {
            "access_token": secrets.token_urlsafe(),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE_S,
            "id_token": jwt.encode({"alg": "RS256", "kid": "1"}, claims, self._key),
        }
