//! Credential programs: what docker's `credHelpers` and `credsStore` name (`docker-credential-<name> get`).

use std::{
    fmt,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::{Credentials, Secret};

/// How long an answer is good; what such programs give lives for an hour at least.
const KEPT: Duration = Duration::from_secs(300);
/// How long an answer stands although it was refused, or a failure although it may have passed: a program is not run for
/// every request.
const KEPT_AT_LEAST: Duration = Duration::from_secs(10);
/// How long a program may take: some ask a service in the cloud.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest answer.
const MOST_BYTES: usize = 64 << 10;
/// The user's name that means a refresh token.
const TOKEN: &str = "<token>";

/// A program, and the name by which it knows a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Helper {
    /// What follows `docker-credential-`.
    pub(crate) name: String,
    pub(crate) server: String,
}

/// The last answers of programs, one at a time: whoever runs one runs it for all who wait.
#[derive(Default)]
pub(crate) struct Answers(Mutex<Option<Known>>);

struct Known {
    helper: Helper,
    credentials: Option<Credentials>,
    since: Instant,
    /// Whether the program gave them at `since`; a program that fails leaves what it gave before.
    good: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Answers {
    /// What the program says, by its last answer where that is good; `doubted` where a registry has just refused it.
    pub(crate) async fn of(&self, helper: &Helper, doubted: bool) -> Option<Credentials> {
        let mut known = self.0.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.helper == *helper) {
            let kept = if doubted || !known.good { KEPT_AT_LEAST } else { KEPT };
            if known.since.elapsed() < kept {
                return known.credentials.clone();
            }
        }
        let outcome = helper.run().await;
        let before = known.take().filter(|known| known.helper == *helper).and_then(|known| known.credentials);
        let (credentials, good) = match outcome {
            Ok(credentials) => (credentials, true),
            Err(why) => {
                tracing::warn!(program = %helper, server = helper.server, why, "a credential program failed; what it gave \
                    before is used");
                (before, false)
            }
        };
        *known = Some(Known { helper: helper.clone(), credentials: credentials.clone(), since: Instant::now(), good });
        credentials
    }
}

impl Helper {
    /// A program of that name. `None` where it is not a plain one: it must not lead elsewhere in the file system.
    pub(crate) fn new(name: &str, server: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=64).contains(&name.len()) && name.bytes().all(plain);
        fits.then(|| Self { name: name.to_owned(), server: server.to_owned() })
    }

    /// Runs it. `None` when it knows nothing of the server. The error shows nothing of its output.
    async fn run(&self) -> Result<Option<Credentials>, String> {
        let spawned = Command::new(self.to_string())
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.map_err(|error| format!("it cannot be run: {error}"))?;
        let stdin = child.stdin.take();
        let talk = async {
            if let Some(mut stdin) = stdin {
                // A program that does not listen has its own reasons, and its answer counts.
                let _ = stdin.write_all(self.server.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(LONGEST, talk).await.map_err(|_| format!("it took more than {LONGEST:?}"))?;
        let Output { status, stdout, .. } = output.map_err(|error| error.to_string())?;
        let stdout = Zeroizing::new(stdout);
        if !status.success() {
            // By docker's protocol this is how a program says that it has nothing.
            let nothing = stdout.len() < 256 && String::from_utf8_lossy(&stdout).contains("credentials not found");
            return if nothing { Ok(None) } else { Err(format!("it ended with {status}")) };
        }
        if stdout.len() > MOST_BYTES {
            return Err(format!("its answer is longer than {MOST_BYTES} bytes"));
        }
        let answer: Answer =
            serde_json::from_slice(&stdout).map_err(|_| "its answer is not what such programs give".to_owned())?;
        let secret = Secret::new(&*answer.secret);
        Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
            ("", true) => None,
            (TOKEN, _) => Some(Credentials::Identity(secret)),
            (user, _) => Some(Credentials::Password { user: user.to_owned(), password: secret }),
        })
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker-credential-{}", self.name)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_none() {
        assert_eq!(Helper::new("ecr-login", "r.io").unwrap().to_string(), "docker-credential-ecr-login");
        for wrong in ["", "../x", "a/b", "a b", "x;y", &"x".repeat(65)] {
            assert_eq!(Helper::new(wrong, "r.io"), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_gives_nothing() {
        let helper = Helper::new("shoal-test-that-nobody-has", "r.io").unwrap();
        assert!(helper.run().await.unwrap_err().contains("cannot be run"));
        assert_eq!(Answers::default().of(&helper, false).await, None);
    }
}
