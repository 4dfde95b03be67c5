"""Tokens of OAuth 2.0 by client credentials (RFC 6749, 4.4), as librdkafka's method `oidc` gets them. Blocking."""

import base64
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from urllib.parse import quote, urlencode

from common.deadline import opener, within
from common.errors import ServiceUnavailable
from common.security.login import OAuth, trusting

TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 1 << 20
_UNSAID_SECONDS = 60.0  # how long a token is used that does not say
_USED = 0.8  # of its time; then the next one is asked for


class Tokens:
    """Keeps a token while it is good. Any thread may ask."""

    def __init__(
        self, oauth: OAuth, monotonic: Callable[[], float] = time.monotonic, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """`timeout_seconds`: for the whole of an answer."""
        self._oauth, self._monotonic, self._timeout = oauth, monotonic, timeout_seconds
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        """One that is good for a while. Raises ServiceUnavailable, SettingsError."""
        with self._lock:
            if self._monotonic() >= self._until:
                self._token, seconds = self._ask()
                self._until = self._monotonic() + _USED * seconds
            return self._token

    def _ask(self) -> tuple[str, float]:
        """A new one, and for how many seconds it is good."""
        oauth = self._oauth
        form = {"grant_type": "client_credentials"} | ({"scope": oauth.scope} if oauth.scope else {})
        secret = base64.b64encode(f"{quote(oauth.client_id, '')}:{quote(oauth.client_secret, '')}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310  the user's own setting
            oauth.url, urlencode(form).encode(), {"Authorization": f"Basic {secret}", "Accept": "application/json"}
        )
        context = trusting(oauth.ca, "kafka.properties: https.ca.location")
        try:
            with within(self._timeout), opener(context, None).open(request, timeout=self._timeout) as answer:
                told = json.loads(answer.read(_MOST_BYTES))
            token, seconds = str(told["access_token"]), float(told.get("expires_in", _UNSAID_SECONDS))
        except urllib.error.HTTPError as error:
            with error:
                advice = "Correct client.id and client.secret" if error.code in {400, 401, 403} else "Is the URL whole?"
                raise ServiceUnavailable(
                    f"the token endpoint {oauth.url} answers {error.code}. {advice} (sasl.oauthbearer in "
                    "kafka.properties)"
                ) from error
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            raise ServiceUnavailable(f"the token endpoint {oauth.url} does not answer ({why})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceUnavailable(f"the token endpoint {oauth.url} answers with no token") from error
        return token, seconds
