"""The doors of Secrets Manager and Parameter Store against moto: identities, batches, searches, versions, writing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from drills.sandbox.aws import Aws
from secretsops.adapters.aws import AwsSource, open_aws
from secretsops.errors import StoreRefused, StoreUnavailable
from secretsops.ports import Ask, Fetched, Put, Query
from secretsops.secret import Plaintext
from secretsops.sources import AssumedRole, AwsAccess, AwsIdentity, Retries
from tests.fakes.between import Between, Fault

KEY = Plaintext(b"test")
STATIC = AwsIdentity(access_key_id=KEY, secret_access_key=KEY)
ARN = "arn:aws:iam::123456789012:role/"


class Cloud:
    """The session's emulation behind a counting server, with names of one test's own."""

    def __init__(self, moto: Aws, between: Between) -> None:
        self.moto, self.between = moto, between
        self.home = f"t-{uuid.uuid4().hex[:8]}"

    def client(self, service: str) -> Any:
        more = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name="us-east-1", endpoint_url=self.moto.url, **more)

    def open(self, service: str, identity: AwsIdentity = STATIC, **more: Any) -> AwsSource:
        return open_aws(AwsAccess(region="us-east-1", service=service, identity=identity, **more))

    def secret(self, name: str, value: str, **more: Any) -> str:
        made = self.client("secretsmanager").create_secret(Name=f"{self.home}/{name}", SecretString=value, **more)
        return str(made["VersionId"])

    def parameter(self, name: str, value: str, **more: Any) -> None:
        arguments = {"Type": "SecureString", **more}
        self.client("ssm").put_parameter(Name=f"/{self.home}/{name}", Value=value, **arguments)


@pytest.fixture(scope="module")
def between(moto: Aws) -> Iterator[Between]:
    server = Between(moto.url).serve()
    yield server
    server.stop()


@pytest.fixture
def cloud(moto: Aws, between: Between, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in ("AWS_SECRETSMANAGER_ENDPOINT", "AWS_SSM_ENDPOINT", "AWS_STS_ENDPOINT", "AWS_ECR_ENDPOINT"):
        monkeypatch.setenv(name, between.url)
    between.clear()
    yield Cloud(moto, between)
    between.clear()


def error(code: str, message: str = "") -> bytes:
    return json.dumps({"__type": code, "message": message}).encode()


# --- Identities ----------------------------------------------------------------------------------------


def test_roles_are_assumed_once_in_order_with_tags_and_external_id(cloud: Cloud) -> None:
    for number in range(30):
        cloud.secret(f"s{number}", str(number))
    last = AssumedRole(arn=f"{ARN}reader", external_id="ext", tags={"team": "a"}, transitive=("team",))
    roles = (AssumedRole(arn=f"{ARN}hop"), last)
    source = cloud.open("SecretsManager", AwsIdentity(access_key_id=KEY, secret_access_key=KEY, roles=roles))
    source.probe()
    for number in range(30):
        assert source.fetch(f"{cloud.home}/s{number}").document == Plaintext(str(number).encode())
    assert cloud.between.took("AssumeRole") == 2
    assert cloud.between.names[:2] == ["AssumeRole", "AssumeRole"]


def test_a_web_identity_is_exchanged_once(cloud: Cloud) -> None:
    minted: list[int] = []

    def mint() -> Plaintext:
        minted.append(1)
        return Plaintext(b"header.payload.signature")

    cloud.secret("app", "v")
    who = AwsIdentity(web_role=f"{ARN}irsa", web_token=mint, roles=(AssumedRole(arn=f"{ARN}reader"),))
    source = cloud.open("SecretsManager", who)
    assert minted == []
    for _ in range(3):
        assert source.fetch(f"{cloud.home}/app").document == Plaintext(b"v")
    assert (len(minted), cloud.between.took("AssumeRoleWithWebIdentity")) == (1, 1)
    assert cloud.between.took("AssumeRole") == 2


STS_DENIED = (
    b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
    b"<Message>User: canary-arn is not authorized</Message></Error></ErrorResponse>"
)


def test_a_role_that_may_not_be_assumed_is_denied_and_named(cloud: Cloud) -> None:
    cloud.between.faults.append(Fault("AssumeRole", 403, STS_DENIED, {"Content-Type": "text/xml"}))
    identity = AwsIdentity(access_key_id=KEY, secret_access_key=KEY, roles=(AssumedRole(arn=f"{ARN}reader"),))
    source = cloud.open("SecretsManager", identity)
    for act in (source.probe, lambda: source.fetch("x")):
        with pytest.raises(StoreRefused, match="role/reader") as caught:
            act()
        assert caught.value.reason == "Denied"
        assert "canary" not in f"{caught.value}{caught.value.hint}"
        assert caught.value.__cause__ is None


def test_the_process_environment_stays_as_it_is(cloud: Cloud) -> None:
    """The peer's login by IAM leaves credentials there, for every other store to use."""
    import os

    from secretsops.adapters.aws_identity import signed_caller_identity

    before = dict(os.environ)
    url, headers, body = signed_caller_identity(STATIC, "eu-west-1", "vault.example")
    assert headers["X-Vault-AWS-IAM-Server-ID"] == ["vault.example"]
    assert "x-vault-aws-iam-server-id" in headers["Authorization"][0]
    assert (url, body) == (f"{cloud.between.url}/", "Action=GetCallerIdentity&Version=2011-06-15")
    assert dict(os.environ) == before


# --- Secrets Manager -----------------------------------------------------------------------------------


def test_versions_are_stages_or_ids(cloud: Cloud) -> None:
    first = cloud.secret("app", "v1")
    cloud.client("secretsmanager").put_secret_value(SecretId=f"{cloud.home}/app", SecretString="v2")
    source = cloud.open("SecretsManager", prefix=f"{cloud.home}/")
    values = [source.fetch("app", version).document for version in ("", "AWSPREVIOUS", f"uuid/{first}")]
    assert values == [Plaintext(b"v2"), Plaintext(b"v1"), Plaintext(b"v1")]


def test_twenty_secrets_come_in_one_request(cloud: Cloud) -> None:
    for number in range(19):
        cloud.secret(f"s{number}", str(number))
    source = cloud.open("SecretsManager", prefix=f"{cloud.home}/")
    asks = [Ask(f"s{number}") for number in range(20)]
    found = source.fetch_many(asks)
    assert [found[ask] for ask in asks[:19]] == [source.fetch(ask.key) for ask in asks[:19]]
    absent = found[asks[19]]
    assert isinstance(absent, StoreRefused)
    assert absent.reason == "NotFound"
    assert cloud.between.took("BatchGetSecretValue") == 1
    assert source.batch == 20


def test_a_batch_that_is_denied_denies_nobody(cloud: Cloud) -> None:
    cloud.secret("a", "1")
    cloud.between.faults.append(Fault("BatchGetSecretValue", 400, error("AccessDeniedException")))
    source = cloud.open("SecretsManager", prefix=f"{cloud.home}/")
    assert source.fetch_many([Ask("a"), Ask("b")]) == {}
    assert list(source.find(Query(name="a"))) == [f"{cloud.home}/a"]


def test_a_secret_that_a_batch_may_not_read_is_asked_for_alone(cloud: Cloud) -> None:
    answer = {"SecretValues": [], "Errors": [{"SecretId": "a", "ErrorCode": "AccessDeniedException", "Message": "no"}]}
    cloud.between.faults.append(Fault("BatchGetSecretValue", 200, json.dumps(answer).encode()))
    assert cloud.open("SecretsManager").fetch_many([Ask("a")]) == {}


def test_secrets_are_found_by_name_path_and_pairs_of_tags(cloud: Cloud) -> None:
    for name, tags in (("a/db", {"env": "prod", "tier": "1"}), ("b/db", {"env": "dev", "tier": "1"}), ("b/web", {})):
        cloud.secret(name, name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    home = cloud.home
    plain, below = cloud.open("SecretsManager"), cloud.open("SecretsManager", prefix=f"{home}/b/")
    assert list(plain.find(Query(name=f"^{home}/.*db$"))) == [f"{home}/a/db", f"{home}/b/db"]
    assert list(plain.find(Query(path=f"{home}/a", name="db"))) == [f"{home}/a/db"]
    assert list(plain.find(Query(path=home, tags={"env": "prod", "tier": "1"}))) == [f"{home}/a/db"]
    assert list(below.find(Query(name="."))) == [f"{home}/b/db", f"{home}/b/web"]
    assert plain.find(Query(path=home, name="none")) == {}
    assert cloud.between.took("GetSecretValue") - cloud.between.took("BatchGetSecretValue") <= 2


def test_tags_are_metadata(cloud: Cloud) -> None:
    cloud.secret("app", "v", Tags=[{"Key": "owner", "Value": "ops"}, {"Key": "k.d", "Value": "z"}])
    source = cloud.open("SecretsManager", prefix=f"{cloud.home}/")
    assert source.metadata("app").document == Plaintext(b'{"k.d":"z","owner":"ops"}')
    with pytest.raises(StoreRefused):
        source.metadata("none")


# --- Parameter Store -----------------------------------------------------------------------------------


def test_parameters_have_versions_and_labels(cloud: Cloud) -> None:
    cloud.parameter("app", "1")
    cloud.parameter("app", "2", Overwrite=True)
    cloud.client("ssm").label_parameter_version(Name=f"/{cloud.home}/app", ParameterVersion=1, Labels=["old"])
    source = cloud.open("ParameterStore", prefix=f"/{cloud.home}/")
    assert source.fetch("app") == Fetched(document=Plaintext(b"2"), version="2")
    assert source.fetch("app", "1").document == source.fetch("app", "old").document == Plaintext(b"1")
    for key, version in (("none", ""), ("app", "9")):
        with pytest.raises(StoreRefused) as caught:
            source.fetch(key, version)
        assert caught.value.reason == "NotFound"


def test_ten_parameters_come_in_one_request(cloud: Cloud) -> None:
    for number in range(9):
        cloud.parameter(f"p{number}", str(number))
    source = cloud.open("ParameterStore", prefix=f"/{cloud.home}/")
    asks = [Ask(f"p{number}") for number in range(10)]
    found = source.fetch_many(asks)
    assert [found[ask] for ask in asks[:9]] == [source.fetch(ask.key) for ask in asks[:9]]
    assert isinstance(found[asks[9]], StoreRefused)
    assert cloud.between.counts["GetParameters"] == 1


def test_parameters_are_found_by_path_name_and_tags(cloud: Cloud) -> None:
    for name, env in (("a/db", "prod"), ("b/db", "dev"), ("b/web", "prod")):
        cloud.parameter(name, name, Tags=[{"Key": "env", "Value": env}])
    home, source = f"/{cloud.home}", cloud.open("ParameterStore")
    by_name = Query(path=home, name="db")
    assert list(source.find(by_name)) == [f"{home}/a/db", f"{home}/b/db"]
    assert list(source.find(Query(path=home, tags={"env": "prod"}))) == [f"{home}/a/db", f"{home}/b/web"]
    assert list(cloud.open("ParameterStore", prefix=f"{home}/b").find(Query(name="."))) == [
        f"{home}/b/db",
        f"{home}/b/web",
    ]
    cloud.between.faults.append(Fault("GetParametersByPath", 400, error("AccessDeniedException")))
    assert list(source.find(by_name)) == [f"{home}/a/db", f"{home}/b/db"]


def test_tags_of_a_parameter_are_metadata(cloud: Cloud) -> None:
    cloud.parameter("app", "v", Tags=[{"Key": "owner", "Value": "ops"}])
    source = cloud.open("ParameterStore", prefix=f"/{cloud.home}/")
    assert source.metadata("app").document == Plaintext(b'{"owner":"ops"}')
    with pytest.raises(StoreRefused):
        source.metadata("none")


# --- Bad days ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
@pytest.mark.parametrize(
    ("status", "code", "text", "expected", "reason"),
    [
        (400, "ThrottlingException", "Rate exceeded", StoreUnavailable, "Throttled"),
        (429, "TooManyRequestsException", "", StoreUnavailable, "Throttled"),
        (400, "ExpiredTokenException", "", StoreRefused, "Denied"),
        (403, "InvalidSignatureException", "Signature expired: 1 is now earlier than 2", StoreUnavailable, "ClockSkew"),
        (403, "RequestTimeTooSkewed", "", StoreUnavailable, "ClockSkew"),
        (400, "AccessDeniedException", "no kms:Decrypt", StoreRefused, "Denied"),
        (503, "ServiceUnavailable", "", StoreUnavailable, "StoreUnavailable"),
    ],
)
def test_bad_answers_are_told_apart(
    cloud: Cloud, service: str, status: int, code: str, text: str, expected: type[Exception], reason: str
) -> None:
    cloud.between.faults.append(Fault("Get", status, error(code, f"{text} canary"), {"Retry-After": "7"}))
    source = cloud.open(service, retries=Retries(attempts=1))
    with pytest.raises(expected) as caught:
        source.fetch("app")
    assert isinstance(caught.value, StoreRefused | StoreUnavailable)
    assert caught.value.reason == reason
    assert "canary" not in f"{caught.value}{caught.value.hint}"
    if isinstance(caught.value, StoreUnavailable) and reason == "Throttled":
        assert caught.value.retry_after == 7.0


# --- Writing -------------------------------------------------------------------------------------------


def described(cloud: Cloud, name: str) -> tuple[Any, Any]:
    client = cloud.client("secretsmanager")
    about, value = client.describe_secret(SecretId=name), client.get_secret_value(SecretId=name)
    return value.get("SecretBinary") or value.get("SecretString"), {tag["Key"]: tag["Value"] for tag in about["Tags"]}


def test_secrets_are_created_updated_once_and_taken_away(cloud: Cloud) -> None:
    source, key = cloud.open("SecretsManager"), f"{cloud.home}/pushed"
    whole = {"a": Plaintext(b"1"), "b": Plaintext(b'{"x":2}')}
    assert source.put(Put(key=key, value=whole))
    assert described(cloud, key) == (b'{"a":"1","b":"{\\"x\\":2}"}', {"managed-by": "external-secrets"})
    assert not source.put(Put(key=key, value=whole))
    assert source.put(Put(key=key, property="c.d", value=Plaintext(b"3"), metadata={"tags": {"team": "x"}}))
    assert described(cloud, key) == (
        b'{"a":"1","b":"{\\"x\\":2}","c":{"d":"3"}}',
        {"managed-by": "external-secrets", "team": "x"},
    )
    assert source.exists(key, "c.d")
    source.remove(key, "c.d")
    source.remove(key, "b")
    assert described(cloud, key)[0] == b'{"a":"1"}'
    source.remove(key, "a")
    assert not source.exists(key)
    source.remove(key)


def test_a_plain_text_push_and_metadata_that_is_not_known(cloud: Cloud) -> None:
    source, key = cloud.open("SecretsManager", recovery_days=7), f"{cloud.home}/plain"
    about = {"kind": "PushSecretMetadata", "spec": {"secretPushFormat": "string", "description": "d"}}
    source.put(Put(key=key, value=Plaintext(b"v"), metadata=about))
    assert described(cloud, key)[0] == "v"
    with pytest.raises(StoreRefused) as caught:
        source.put(Put(key=key, value=Plaintext(b"v"), metadata={"replicationLocations": ["x"]}))
    assert caught.value.reason == "Unsupported"


@pytest.mark.parametrize("service", ["SecretsManager", "ParameterStore"])
def test_what_others_keep_is_left_alone(cloud: Cloud, service: str) -> None:
    cloud.secret("theirs", "v")
    cloud.parameter("theirs", "v")
    key = f"{cloud.home}/theirs" if service == "SecretsManager" else f"/{cloud.home}/theirs"
    source = cloud.open(service)
    with pytest.raises(StoreRefused) as caught:
        source.put(Put(key=key, value=Plaintext(b"mine")))
    assert caught.value.reason == "NotOurs"
    source.remove(key)
    assert source.fetch(key).document == Plaintext(b"v")


def test_parameters_are_written_as_the_peer_writes_them(cloud: Cloud) -> None:
    source, key, client = cloud.open("ParameterStore"), f"/{cloud.home}/pushed", cloud.client("ssm")
    assert source.put(Put(key=key, value={"a": Plaintext(b"1")}))
    made = client.get_parameter(Name=key)["Parameter"]
    assert (made["Value"], made["Type"]) == ('{"a":"MQ=="}', "String")
    assert not source.put(Put(key=key, value={"a": Plaintext(b"1")}))
    secure = {"secretType": "SecureString", "encodeAsDecoded": True}
    assert source.put(Put(key=key, value={"a": Plaintext(b"2")}, metadata=secure))
    assert source.fetch(key).document == Plaintext(b'{"a":"2"}')
    source.put(Put(key=key, property="b", value=Plaintext(b"3"), metadata=secure))
    source.remove(key, "a")
    assert source.fetch(key).document == Plaintext(b'{"b":"3"}')
    source.remove(key, "b")
    assert not source.exists(key)


def test_tokens_of_ours_can_be_asked_for_and_nothing_else(cloud: Cloud) -> None:
    source = cloud.open("SecretsManager")
    made = json.loads(source.call("sts:GetSessionToken", {"DurationSeconds": 900}).reveal())
    assert made["Credentials"]["SessionToken"]
    assert made["Credentials"]["Expiration"].endswith("Z")
    assert json.loads(source.call("ecr:GetAuthorizationToken", {}).reveal())["authorizationData"]
    for operation in ("secretsmanager:DeleteSecret", "iam:CreateUser", "sts"):
        with pytest.raises(StoreRefused):
            source.call(operation, {})
