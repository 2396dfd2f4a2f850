"""Makes the calls of a plan with an HTTP client for Python, as steps.mjs does with a client for Node.

    steps.py STACK BASE PLAN FOLDER
"""
import asyncio
import atexit
import pathlib
import re
import sys

LIMIT = 20


def pieces(body):
    """The body in two pieces, without a length."""
    yield body[:7]
    yield body[7:]


async def pieces_later(body):
    for piece in pieces(body):
        yield piece


def with_requests():
    import requests

    session = requests.Session()
    # Calls only the given address: ignores the environment's proxies.
    session.trust_env = False

    def call(method, url, headers, framing, body):
        data = {"none": None, "chunked": pieces(body)}.get(framing, body)
        got = session.request(method, url, headers=headers, data=data, timeout=LIMIT)
        return got.status_code, got.headers.get("Cache-Status", ""), got.content

    return call


def with_httpx():
    import httpx

    client = httpx.Client(trust_env=False, timeout=LIMIT)

    def call(method, url, headers, framing, body):
        content = {"none": None, "chunked": pieces(body)}.get(framing, body)
        got = client.request(method, url, headers=headers, content=content)
        return got.status_code, got.headers.get("Cache-Status", ""), got.content

    return call


def with_httplib2():
    import httplib2

    client = httplib2.Http(timeout=LIMIT)

    def call(method, url, headers, framing, body):
        got, content = client.request(url, method, headers=headers, body=None if framing == "none" else body)
        return got.status, got.get("cache-status", ""), content

    return call


def with_aiohttp(retry=False):
    import aiohttp

    async def open_client():
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT))
        if not retry:
            return session
        from aiohttp_retry import ExponentialRetry, RetryClient

        # As the project's page shows it, with the default choice of failures to repeat.
        return RetryClient(client_session=session, retry_options=ExponentialRetry(attempts=2, start_timeout=0.05))

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(open_client())

    async def call(method, url, headers, framing, body):
        data = {"none": None, "chunked": pieces_later(body)}.get(framing, body)
        expects = {"expect100": True} if framing == "expect" else {}
        async with client.request(method, url, headers=headers, data=data, **expects) as got:
            return got.status, got.headers.get("Cache-Status", ""), await got.read()

    atexit.register(lambda: loop.run_until_complete(client.close()))
    return lambda *call_: loop.run_until_complete(call(*call_))


STACKS = {
    "requests": with_requests,
    "httpx": with_httpx,
    "httplib2": with_httplib2,
    "aiohttp": with_aiohttp,
    "aiohttp-retry": lambda: with_aiohttp(retry=True),
}

stack, base, plan, folder = sys.argv[1:]
call = STACKS[stack]()
token = None
for number, line in enumerate(pathlib.Path(plan).read_text().splitlines()):
    method, target, framing, key, body = line.split("\t")
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if key != "-":
        headers["Sezzle-Request-Id"] = key
    if framing != "none":
        headers["Content-Type"] = "application/json"
    try:
        status, cache, content = call(method, base + target, headers, framing, body.encode())
    except Exception as error:
        print(f"{type(error).__name__}\t", flush=True)
        print(repr(error), file=sys.stderr)
        continue
    if token is None and (found := re.search(rb'"token": ?"([^"]+)"', content)):
        token = found[1].decode()
    pathlib.Path(folder, str(number)).write_bytes(content)
    print(f"{status}\t{cache}", flush=True)
