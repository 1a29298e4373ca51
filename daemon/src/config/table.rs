//! The page of documentation about the settings, made from the same source as the settings themselves.

use clap::{Args, Command};

use super::{Layer, is_live};

/// What is known about one setting, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The flag with its value, as in `--capacity SIZE`.
    pub flag: String,
    /// The environment variable.
    pub env: String,
    /// The key in the file.
    pub key: String,
    /// The default as it would be written; empty where there is none.
    pub default: String,
    /// Whether SIGHUP changes it.
    pub live: bool,
    /// What it is.
    pub meaning: String,
}

/// All settings that have a flag, in the order of the help.
#[must_use]
pub fn rows() -> Vec<Row> {
    let command = Layer::augment_args(Command::new("daemon"));
    let defaults = Layer::defaults().fields();
    let row = |arg: &clap::Arg| {
        let key = arg.get_id().to_string();
        let value = arg.get_value_names().and_then(<[_]>::first).map_or("VALUE", |name| name.as_str());
        let default = match defaults.get(&key) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => other.to_string(),
            _ => String::new(),
        };
        let flag = match (arg.get_long().unwrap_or_default(), value) {
            (long, "BOOL") => format!("--{long}"),
            (long, value) => format!("--{long} {value}"),
        };
        Row {
            flag,
            env: arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            default,
            live: is_live(&key),
            meaning: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            key,
        }
    };
    command.get_arguments().map(row).collect()
}

/// The settings as a Markdown table.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| flag | environment | key in the file | default | SIGHUP | meaning |\n|---|---|---|---|---|---|\n",
    );
    for row in rows() {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
        text += &format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            code(&row.flag),
            code(&row.env),
            code(&row.key),
            code(&row.default),
            if row.live { "yes" } else { "" },
            row.meaning.replace('|', "\\|"),
        );
    }
    text
}

/// The whole page.
#[must_use]
pub fn page() -> String {
    format!("{ABOVE}{}{BELOW}", markdown())
}

const ABOVE: &str = r#"# The settings of `shoal daemon`

<!-- Made from daemon/src/config; `SHOAL_BLESS=1 cargo test -p shoal --test settings` writes it anew. -->

Each setting can be written in three places: as a flag, in the environment, and in a TOML file that `--config FILE` (or
`SHOAL_CONFIG`) names. A flag wins over the environment, the environment over the file, the file over the default. A list
is taken whole from the first place that has it; in the environment its items are separated by commas.

`shoal daemon --check` with the same flags reads all three, prints what would be in force, and ends. A value that does not
parse, an unknown key and a setting that contradicts another are errors that name the setting, the value and what is
expected; the daemon does not start with them (exit code 2).

SIGHUP reads the environment's and the flags' files again: the TOML file, the cluster keys, the credentials, the
certificates. The settings marked *SIGHUP* take effect at once, the others are named in the log and wait for a restart.
When anything is wrong, what was in force stays.

"#;

const BELOW: &str = r#"
Sizes: `512MiB`, `10GiB`, `1TB`, or a number of bytes. Durations: `500ms`, `30s`, `2m`. Rates: `200mbit` and `2.5gbit` count
bits by thousands, as `tc` does; `25MiB/s` and `1.5GB/s` count bytes; `none` is no limit, and lifts one that a place below sets.

## Limits

`limit_up` and `limit_down` hold for the data plane, all peers and blobs together: every byte of UDP payload counts, headers,
acknowledgements and repeated packets included. What goes out is held back before it leaves. What comes in has been sent already:
what this node does not read holds its peers back, so after a limit was lowered it takes a moment to hold. The control plane
(TCP) is small and not limited. `limit_origin` holds for the bodies of blobs, all registries and connections together; manifests,
lists and tokens do not wait. A limit holds within 5 % over any 10 s from 10mbit on; below, what peers may send ahead (64 KiB each)
counts for more.

A node with a limit offers its peers fewer slots and takes fewer pieces at a time. A node that reads blobs for the others can
give them no more than its `limit_up`: where only some nodes have a limit, every node waits for the one that was made the seed.

## The file

```toml
data_dir = "/var/lib/shoal"
capacity = "500GiB"
min_free = "50GiB"
cluster_key_file = "/etc/shoal/cluster.key"
bootstrap = ["shoal-peers.shoal.svc.cluster.local:5051"]
zone = "eu-west-1a"

# Registries of which nothing but the name, or the name and the URL, is said:
registry = ["ghcr.io", "registry.lan:5000=http://registry.lan:5000"]

# Registries of which more is said. Live on SIGHUP like `registry`; given as flags, `--registry` replaces both.
[registries."docker.io"]
credentials = "/etc/shoal/docker.json"   # a docker config.json for this registry alone
access = "caller"                        # required where there are credentials: "caller" or "node"

[registries."registry.corp.example"]
url = ["https://10.0.0.9:8443", "https://10.0.1.9:8443"]   # one or several, the best first
access = "node"
user_file = "/etc/shoal/corp/username"         # a name and a password, in files of one line each
password_file = "/etc/shoal/corp/password"
ca_file = "/etc/shoal/corp-ca.pem"             # PEM certificates to trust beside the system's
client_cert = "/etc/shoal/corp-client.pem"     # PEM certificates to show
client_key = "/etc/shoal/corp-client.key"      # where the key is not in `client_cert`
proxy = "none"                                 # a proxy for this registry alone, or none
allow_local = false                            # see below
```

## Several URLs for one registry

They are places of the same registry: the same content, the same credentials. The first that works is asked. One that cannot be
reached, sends nothing for 5 s, or answers 5xx or 429 rests for 30 s, then twice as long each time, or for as long as it asked
to; meanwhile the next is asked, from the byte on that was reached. What one answers with 404 the others are asked for too. 401
and 403 are answers.

`docker.io` is asked at `registry-1.docker.io`, and a name of one part there lies under `library/`.

## Where a registry may lead

Clients name registries, and registries name token services and send their clients on by redirects. A registry that is not
configured (`allow_any_registry`) may lead only to public addresses over https. One that is configured may lead into private
networks, but to loopback, link-local and metadata addresses only where its `url` writes that address (or `localhost`). What a
name is looked up to is checked where it is connected to. `allow_local = true` lifts this for one registry, such as one whose
name is this machine's own. Credentials go to the registry and its token service, and follow no redirect to another host.

`allow_any_registry` and `access = "caller"` do not go together.

## Proxies

`proxy` of a registry goes before `proxy` of all, and that before `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` (in capitals or small
letters) of the environment. `no_proxy`, or else `NO_PROXY`, lists what is asked without: names with all below them, addresses,
networks such as `10.0.0.0/8`, or `*`. Registries on loopback are asked directly unless a proxy is said for them alone, registries
that are not configured always. A proxy that wants a password gets it from the URL in the environment; settings are printed, and
take none.

## Credentials and `access`

For each registry, the first of these that has some: its `user_file` and `password_file`; its `credentials`; the files of
`credentials` for all, in order. Such a file is a docker `config.json`, or a folder with one or with a `.dockerconfigjson`, as a
Kubernetes Secret is mounted. In it a program of `credHelpers` goes before `auths`, and that before the program of `credsStore`;
`docker-credential-NAME get` is run from the `PATH`, for 10 s at most, and its answer kept for 5 minutes. Entries for a single
repository (`host/path`) are not used. Changed files are seen within 5 s, and at once where the registry refuses what was there
before; a file that cannot be read any more changes nothing.

What a registry serves to everybody, whoever reaches the mirror may read. What it serves only to the credentials given
here is *private*, and one has to say who may read it through this node; without that word the daemon does not start.

* `caller`: the origin's challenge is passed on, and each caller's own token is proven at the origin, by one HEAD for each thing
  that it asks for. The verdict stands as long as the token lives, an hour at most, and a minute where that cannot be read.
  containerd does this.
* `node`: whoever reaches the mirror's port may read. podman, CRI-O and Docker send no token to a mirror that stands in for
  another registry, so for them private content needs this. Where another registry says `caller`, this node asks this one by a
  HEAD whether it has what is asked for, so that its name opens nothing else.

## The audit log

With `audit_log` each request for a manifest or a blob is one line of JSON, written when its answer has ended:

```json
{"time":"2026-03-01T09:30:12.345Z","caller":"127.0.0.1:41874","method":"GET","kind":"blob","registry":"ghcr.io","repository":"models/a","reference":"sha256:…","digest":"sha256:…","range":"bytes=0-","status":206,"bytes":4194304,"from":{"store":0,"peers":4194304,"origin":0},"verdict":"left","took_ms":118}
```

`reference` is what was asked for and `digest` what that was; `bytes` were handed to the connection, and `from` says where they
came from: they were in this node's store when the request came, or came meanwhile from peers or from the registry. `verdict` is
`served`, `not_modified`, `short` (the mirror ended the body so that the client goes on elsewhere), `left` (the client did: containerd
does so with each part of a layer) or `refused`, with the `code` of the error. Lines never hold up a pull: what the disk does not take in
time is lost and counted in `shoal_audit_lost_total`. To rotate, move the file away and send SIGHUP.

## The cluster key

`(umask 077; shoal key new > cluster.key)` makes one. Every node has the same file; a file that others may read is
refused. To change the key without stopping: add the new one as second line everywhere and send SIGHUP; make it the first
line everywhere, SIGHUP; take the old one out, SIGHUP. Without a key the daemon runs alone, as a caching mirror.
"#;
