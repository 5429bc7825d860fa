"""Access to a service, tested as an attacker would: hosts, origins, tokens and folders."""

import os
import socket
import sys

import pytest

from graphdiff.errors import ConfigError, DataError
from graphdiff.serving.access import Access, find_token
from tests.serving.client import BEARER, TOKEN, local, make, serving

from graphdiff.serving import service  # isort: skip

ASK = {"history": ["item-1"]}
CHANGES = [("/reload", {}), ("/items", {"features": {"image": [None]}, "item_id": ["new"]})]


@pytest.fixture(scope="module")
def client():
    with local(make()) as client:
        yield client


def everything(client, headers):
    """The status of a request to each endpoint."""
    return [
        client.get("/", headers=headers).status_code,
        client.get("/health", headers=headers).status_code,
        client.get("/items", headers=headers).status_code,
        client.get("/docs", headers=headers).status_code,
        client.get("/openapi.json", headers=headers).status_code,
        client.post("/recommend", json=ASK, headers=headers).status_code,
        *(client.post(path, json=body, headers=headers).status_code for path, body in CHANGES),
        client.get("/none", headers=headers).status_code,
        client.request("OPTIONS", "/recommend", headers=headers).status_code,
    ]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "evil.example.localhost",
        "localhost:81",  # another service on this machine
        "127.0.0.1:8000",
        "127.0.0.2",
        "localhost.",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost:80:80",
        "localhost:",
        "localhost:99999",
        "[::1",
        "[::1]x",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "",
        " localhost",
        "lo\xe7alhost".encode("latin-1"),
    ],
)
def test_kind_i_a_request_names_an_allowed_host(client, host):
    # DNS rebinding: a page's own name resolves to 127.0.0.1.
    before = client.get("/health").json()
    headers = {"Host": host} | BEARER
    assert everything(client, headers) == [403] * 10
    assert client.get("/health").json() == before


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]", "[0:0::1]:80"])
def test_kind_i_loopback_is_an_allowed_host(client, host):
    assert client.post("/recommend", json=ASK, headers={"Host": host}).status_code == 200


def test_kind_i_exactly_one_host_is_needed(client):
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert client.get("/health", headers=headers).status_code == 403
    with serving(make()) as real:
        port = real.base_url.port
        for lines in ([f"Host: localhost:{port}", "Host: evil.example"], []):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                text = "\r\n".join(["GET /health HTTP/1.0", *lines, "", ""])
                connection.sendall(text.encode())
                answer = connection.makefile("rb").readline()
            assert answer.split()[1][:1] == b"4", answer


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://localhost",  # port 443, where another service may be
        "http://localhost:81",
        "http://localhost.evil.example",
        "null",
        "file://",
        "localhost",
        "chrome-extension://localhost",
        "",
    ],
)
def test_kind_i_pages_of_other_origins_may_not_call(client, origin):
    assert everything(client, {"Origin": origin} | BEARER) == [403] * 10


def test_kind_i_its_own_page_may_call(client):
    for origin in ("http://localhost", "http://127.0.0.1", "http://localhost:80"):
        answer = client.post("/recommend", json=ASK, headers={"Origin": origin})
        assert answer.status_code == 200


def test_kind_i_the_port_is_the_bound_one():
    with serving(make()) as client:
        port = client.base_url.port
        assert client.get("/health").status_code == 200
        for host in (f"localhost:{port}", f"[::1]:{port}"):
            assert client.get("/health", headers={"Host": host}).status_code == 200
        for host in ("localhost", "localhost:80", f"127.0.0.1:{port + 1}"):
            assert client.get("/health", headers={"Host": host}).status_code == 403
        page = {"Origin": f"http://localhost:{port + 1}"}
        assert client.post("/recommend", json=ASK, headers=page).status_code == 403


def test_kind_i_more_hosts_can_be_allowed():
    access = Access(TOKEN, ["Shop.example", "api.example:8443", "fd00::1", "[fd00::2]:99"])
    with local(make(), access) as client:
        for host, status in {
            "shop.example": 200,
            "SHOP.example:443": 200,
            "shop.example:8000": 403,
            "www.shop.example": 403,
            "api.example:8443": 200,
            "api.example": 403,
            "[fd00::1]": 200,
            "[fd00::2]:99": 200,
            "[fd00::2]": 403,
            "localhost": 200,
        }.items():
            assert client.get("/health", headers={"Host": host}).status_code == status, host
        page = {"Host": "shop.example", "Origin": "https://shop.example"}
        assert client.post("/recommend", json=ASK, headers=page).status_code == 200


@pytest.mark.parametrize("host", ["", "*", "*.example", "http://shop.example", "a b", "x:70000"])
def test_kind_i_only_hosts_can_be_allowed(host):
    with pytest.raises(ConfigError, match="is not a host; give a name or an address"):
        Access(TOKEN, [host])


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Bearer \xe9{TOKEN}".encode("latin-1"),
    ],
)
def test_kind_i_changes_need_the_token(client, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    stranger = client.by(headers)
    before = client.get("/health").json()
    for path, body in CHANGES:
        answers = [
            stranger.post(path, json=body),
            stranger.post_text(path, "NaN"),
            stranger.post(path + "?token=" + TOKEN, json=body),
            stranger.post(path, json=body | {"token": TOKEN}),
        ]
        for answer in answers:
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in answer.text
    assert client.get("/health").json() == before
    assert stranger.post("/recommend", json=ASK).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "203.0.113.7"])
def test_kind_i_an_address_is_no_proof_of_a_local_caller(client, address):
    # All callers behind a proxy on this machine come from loopback, and headers can be forged.
    made_up = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost"}
    far = client.by(made_up, address)
    assert [far.post(path, json=body).status_code for path, body in CHANGES] == [401, 401]
    forged = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    assert far.get("/health", headers=forged).status_code == 403
    owner = client.by(BEARER, address)
    assert owner.post("/reload", json={}).status_code == 409  # from no folder, but allowed


def test_kind_i_forwarding_headers_are_not_read(tmp_path, monkeypatch):
    make().save_pretrained(tmp_path)
    found = []
    monkeypatch.setattr(service.uvicorn.Server, "run", lambda self, sockets: found.append(self))
    service.serve(tmp_path, port=0)
    assert not found[0].config.proxy_headers


@pytest.fixture
def runs(tmp_path):
    """A folder with RUN folders, among files that no answer may reveal."""
    make(seed=1, num_items=50).save_pretrained(tmp_path / "runs" / "good")
    make(seed=1, num_items=50).save_pretrained(tmp_path / "outside")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.yaml").write_text("model: [secret]")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs" / "loop")
    (tmp_path / "runs2").mkdir()
    return tmp_path / "runs"


def refused_runs(runs):
    return [
        "/etc",
        "/etc/passwd",
        "/none/such",
        "..",
        "../outside",
        "good/../../outside",
        "link",
        "loop",
        "link/../../outside",
        str(runs.parent / "outside"),
        str(runs) + "2",
        "../runs2",
        "~",
        "$HOME",
        "none",
        "a\0b",
        "good\0",
        "x" * 5000,
        "\\\\server\\share",
        "file:///etc",
        "/proc/self/root" + str(runs.parent / "outside"),
    ]


def test_kind_i_only_folders_within_the_given_one_are_loaded(runs, caplog):
    with local(make(), Access(TOKEN, runs=runs)) as client:
        before = client.get("/health").json()
        answers = {run: client.post("/reload", json={"run": run}) for run in refused_runs(runs)}
        # The same answer whether the folder exists or not.
        assert {answer.status_code for answer in answers.values()} == {422}
        assert len({answer.text for answer in answers.values()}) == 1
        for run in ("empty", "broken", "good/config.yaml"):
            answer = client.post("/reload", json={"run": run})
            assert answer.status_code == 422
            assert answer.json()["detail"] == (
                "not reloaded, the old model stays; the service's log says why"
            )
        assert client.get("/health").json() == before
        assert "config.yaml" in caplog.text
        assert client.post("/reload", json={"run": "good"}).json()["items"] == 50
        for run in (str(runs / "good"), "./good/", "broken/../good"):
            assert client.post("/reload", json={"run": run}).status_code == 200


def test_kind_i_by_default_no_other_folder_is_loaded(runs):
    with local(runs / "good") as client:
        for run in (*refused_runs(runs), "good", str(runs / "good"), str(runs)):
            answer = client.post("/reload", json={"run": run})
            assert answer.status_code == 422
            assert "loads no other folder than its own" in answer.text
            assert str(runs) not in answer.text
        assert client.post("/reload", json={}).json()["loads"] == 2


def test_kind_i_no_answer_describes_the_file_system(runs):
    with local(runs / "good", Access(TOKEN, runs=runs)) as client:
        (runs / "good" / "model.safetensors").write_bytes(b"damaged")
        answers = [client.post("/reload", json={"run": run}) for run in (None, "good", "broken")]
        answers += [client.get("/health"), client.get("/openapi.json"), client.get("/")]
        for answer in answers:
            for word in (str(runs.parent), "safetensors", "config.yaml", "secret", os.sep + "etc"):
                assert word not in answer.text


def test_kind_i_a_folder_of_runs_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder; give the folder that holds RUN"):
        Access(TOKEN, runs=tmp_path / "none")
    with pytest.raises(DataError, match="--runs DIR"):
        Access(TOKEN).run_folder("x")


def test_kind_i_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("GRAPHDIFF_TOKEN", "from-the-environment")
    assert find_token(file) == TOKEN
    assert find_token() == "from-the-environment"
    monkeypatch.delenv("GRAPHDIFF_TOKEN")
    assert find_token() is None
    file.write_bytes(b"\xff")
    for path in (file, tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="cannot read a token from"):
            find_token(path)


@pytest.mark.parametrize("token", ["", "short", "x" * 600, "with blanks in it ...", "ü" * 20])
def test_kind_i_a_weak_token_is_refused(token):
    with pytest.raises(ConfigError, match="the token cannot be used; give 16 to 512"):
        Access(token)


def test_kind_i_a_generated_token_is_new_each_time():
    tokens = {Access().token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 40


def test_kind_i_the_command_prints_a_generated_token_only(tmp_path, monkeypatch, capsys):
    from graphdiff.cli.main import main

    make().save_pretrained(tmp_path / "run")
    apps = []

    def run(self, sockets):
        apps.append(self.config.app)

    monkeypatch.setattr(service.uvicorn.Server, "run", run)
    monkeypatch.delenv("GRAPHDIFF_TOKEN", raising=False)
    command = ["graphdiff", "serve", str(tmp_path / "run"), "--port", "0"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    access = apps[0].state.service.access
    assert capsys.readouterr().out.splitlines()[1].endswith(access.token)
    monkeypatch.setenv("GRAPHDIFF_TOKEN", TOKEN)
    more = ["--allow-host", "a.example", "--allow-host", "b.example", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, *more])
    main()
    access = apps[1].state.service.access
    assert access.allows_change(f"Bearer {TOKEN}")
    assert access.allows_host("b.example", 80, 8000)
    assert access.run_folder("run") == tmp_path / "run"
    assert TOKEN not in capsys.readouterr().out
