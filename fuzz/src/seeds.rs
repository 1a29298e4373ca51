//! Inputs to begin with: what honest programs write, and oddities that somebody thought of. What a fuzzer found later stands in
//! `corpora` beside them.

use std::net::SocketAddr;

use shoal_blob::{Digest, Midstate, PieceSet};
use shoal_proto::{
    Authority, Epoch, Grant, NodeKey, PieceHeader, Segment, Visibility,
    codec::{self, MAX_COORDINATION_BODY, MAX_PIECE_HEADER, MAX_TRADE_BODY},
    coordination::{Coordination, Holding, Join, Neighbour, Probe, ToCoordinator, ToMember},
    topics::Topic,
    trade::{Envelope, Hello, Lacks, Message},
};

/// The seeds of a target, each with a name.
#[must_use]
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let inputs: Vec<Vec<u8>> = match target {
        "codec" => codec(),
        "range" => ranges(),
        "challenge" => challenges(),
        "reference" => texts(&REFERENCES),
        "manifest" => texts(&MANIFESTS),
        "settings" => texts(&SETTINGS),
        "swarm" | "coordination" => choices(),
        _ => Vec::new(),
    };
    inputs.into_iter().enumerate().map(|(number, bytes)| (format!("seed-{number:02}"), bytes)).collect()
}

fn codec() -> Vec<Vec<u8>> {
    let key = NodeKey::from_seed(&[3; 32]);
    let digest = Digest::Sha256([1; 32]);
    let epoch = Epoch { number: 7, coordinator: key.id() };
    let duration = std::time::Duration::from_secs(3);
    let grant = Grant { digest, length: 1 << 30, epoch, seed: key.id(), duration, visibility: Visibility::Public };
    let grant = grant.sign(&key);
    let states = [Midstate::Sha512([u64::MAX; 8]); 2];
    let segment = Segment::new(Digest::Sha512([1; 64]), 1 << 30, Authority::Lease(epoch), 3, &states).sign(&key);
    let hello = Hello { length: 1 << 30, have: PieceSet::full(1024), wants: true, zone: "here".to_owned() };
    let lacks = Lacks { before: true, behind: false };
    let messages = [
        Message::Hello(hello),
        Message::Grant(Box::new(grant.clone())),
        Message::Have { pieces: vec![1, 500, 1023], queue: 3 },
        Message::Slot { slot: 300 },
        Message::Take { slot: 300, piece: 9, lacks },
        Message::Bye,
    ];
    let bodies = messages.iter().filter_map(|message| codec::body(message, MAX_TRADE_BODY).ok());
    let letter = bodies.collect::<Vec<_>>().concat();
    let frames =
        [Topic::New(0, digest), Topic::Known(0)].map(|topic| Envelope::seal(topic, &letter).unwrap_or_default());
    let addresses = vec![SocketAddr::from(([10, 0, 0, 1], 5051)), SocketAddr::from(([0; 8], 1))];
    let probe = Probe { length: 1 << 30, visibility: Visibility::Private };
    let join = Join {
        digest,
        length: Some(1 << 30),
        wants: true,
        can_seed: true,
        held: PieceSet::full(1024),
        addresses: addresses.clone(),
        zone: "here".to_owned(),
        highest: Some(grant.clone()),
        neighbours: 12,
    };
    let joined = ToMember::Joined {
        digest,
        found: Some(probe),
        neighbours: Some(vec![Neighbour { node: key.id(), addresses: addresses.clone() }]),
        grant: Some(grant),
        importers: None,
        members: 2,
    };
    let holdings = vec![Holding { digest, found: probe }];
    let announce = ToCoordinator::Announce { holdings, addresses, zone: String::new() };
    let said = [
        Coordination::ToCoordinator(ToCoordinator::Join(join)),
        Coordination::ToCoordinator(announce),
        Coordination::ToMember(joined),
    ];
    let header = PieceHeader { piece: 9, link: [1; 8], proof: vec![segment.testimony(), segment.testimony()] };
    let mut inputs = vec![
        [&[0][..], &[0], &letter].concat(),
        [&[2][..], &codec::body(&(5u16, header), MAX_PIECE_HEADER).unwrap_or_default()].concat(),
        [&[3][..], &frames.concat()].concat(),
        [&[3][..], &[0x80, 0]].concat(),
        [&[5][..], &codec::body(&segment, MAX_TRADE_BODY).unwrap_or_default()].concat(),
        // Fifteen bytes that promise four billion pieces.
        [&[0][..], &[1, 3, 255, 255, 255, 255, 15, 3]].concat(),
    ];
    for message in said {
        inputs.push([&[1][..], &codec::body(&message, MAX_COORDINATION_BODY).unwrap_or_default()].concat());
        inputs.push([&[4][..], &codec::encode(&message, MAX_COORDINATION_BODY).unwrap_or_default()].concat());
    }
    inputs
}

fn ranges() -> Vec<Vec<u8>> {
    let texts = [
        "bytes=0-",
        "bytes=4-",
        "bytes=-3",
        "bytes=2-4",
        "bytes=0-0,5-9,-1",
        "bytes=9-2",
        "items=0-1",
        "bytes=,,",
        "bytes=99999999999999999999-",
        "bytes=-0",
        " bytes = 1 - 2 ",
        "bytes=0-0,0-0,0-0,0-0",
        "bytes",
    ];
    let lengths = [0u64, 1, 10, 1 << 40, u64::MAX];
    let head = |length: u64| [(length >> 32) as u32, length as u32].map(u32::to_le_bytes).concat();
    let inputs = texts.iter().zip(lengths.into_iter().cycle());
    inputs.map(|(text, length)| [&head(length)[..], &[0], text.as_bytes()].concat()).collect()
}

fn challenges() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 16] = [
        (0, r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#),
        (0, r#"Bearer realm="https://auth.example/token""#),
        (0, "Basic realm=\"a \\\" b\"\nBearer realm=\"http://[::1]:5000/t\""),
        (0, r#"bearer scope="",realm=x"#),
        (0, "Negotiate, Basic, Bearer"),
        (0, "Bearer realm=\"file:///etc/passwd\""),
        (1, r#"{"token":"e30.eyJleHAiOjk5OTk5OTk5OTl9.c2ln","expires_in":300}"#),
        (1, r#"{"access_token":"x","expires_in":18446744073709551615}"#),
        (1, "e30.eyJleHAiOjF9.c2ln"),
        (2, "bytes 0-0/1"),
        (2, "bytes 5-9/*"),
        (2, "bytes 0-18446744073709551615/*"),
        (3, r#"{"auths":{"registry.example":{"auth":"dXNlcjpwYXNzd29yZA=="}}}"#),
        (
            3,
            r#"{"auths":{"https://index.docker.io/v1/":{"identitytoken":"x","username":"y"}},"credHelpers":{"a.b":"c"}}"#,
        ),
        (3, r#"{"auths":{"registry.example":{"auth":"not base64"}}}"#),
        (3, "{"),
    ];
    texts.iter().map(|(kind, text)| [&[*kind][..], text.as_bytes()].concat()).collect()
}

const REFERENCES: [&str; 16] = [
    "/v2/ ",
    "/v2/library/alpine/manifests/3.20 ns=docker.io",
    "/v2/docker.io/library/alpine/manifests/latest ",
    "/v2/a/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ns=registry.lan:5000",
    "/v2/a/b/tags/list n=5&last=x&ns=localhost",
    "/v2/a/referrers/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ns=a.b&artifactType=x",
    "/v2/../../etc/passwd/manifests/x ns=docker.io",
    "/v2/%2e%2e/%2e%2e/blobs/sha256:00 ns=docker.io",
    "/v2/a%00b/manifests/x ns=docker.io",
    "/v2/blobs/manifests/tags/list ns=[::1]:5000",
    "/v2/a/manifests/x ns=169.254.169.254",
    "/v2/a/manifests/x ns=a.b&ns=c.d",
    "/v2/A/manifests/x ns=UPPER.example",
    "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    "v1.2.3-rc_4",
    ".hidden",
];

const MANIFESTS: [&str; 6] = [
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#,
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
    r#"{"mediaType":"a\r\nSet-Cookie: x"}"#,
    r#"{"mediaType":7}"#,
    "",
    r#"{"mediaType":"text/plain","mediaType":"text/html"}"#,
];

const SETTINGS: [&str; 7] = [
    "data_dir = \"/var/lib/shoal\"\ncapacity = \"500GiB\"\nmin_free = 1000\nzone = \"eu-west-1a\"\n",
    "registry = [\"ghcr.io\", \"registry.lan:5000=http://registry.lan:5000\"]\n[registries.\"docker.io\"]\naccess = \"caller\"\n",
    "bootstrap = [\"a.b:5051\", \"[::1]:1\"]\nadvertise = [\"10.0.0.1\", \"10.0.0.1:5\"]\nalone_after = \"30s\"\ndrain = \"5m\"\n",
    "limit_up = \"200mbit\"\nlimit_down = \"1.5GB/s\"\nlimit_origin = \"none\"\nin_flight = \"64MiB\"\norigin_connections = 4\n",
    "log = \"info,shoal_swarm=debug\"\nlog_format = \"json\"\nmirror_connections = 65535\n",
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n# old\n5B5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b\n",
    "capacity = \"\"\n[registries.x]\nurl = 5\n",
];

/// Choices have no form: some that are long enough for much to happen.
fn choices() -> Vec<Vec<u8>> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    [64, 256, 1024, 4096].map(|length| (0..length).map(|_| next()).collect()).into()
}
