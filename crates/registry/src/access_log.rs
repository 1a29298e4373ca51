//! The access log of the CNCF's `distribution`, which Debian calls `docker-registry`: what a real registry says it sent.

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLine {
    /// The method.
    pub method: String,
    /// The path with the query.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of the body that it sent; for a HEAD those that it did not send.
    pub bytes: u64,
    /// Who asked, by its own words.
    pub user_agent: String,
}

/// A line that is not of the "combined" form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log has a line of another form: {0:?}")]
pub struct UnknownLine(pub String);

impl AccessLine {
    /// Reads a log whole. Every line has to be understood: one that is passed over could hide bytes that were sent.
    ///
    /// # Errors
    /// [`UnknownLine`] for the first that is of another form.
    pub fn read_all(log: &str) -> Result<Vec<Self>, UnknownLine> {
        log.lines().map(|line| Self::read(line).ok_or_else(|| UnknownLine(line.to_owned()))).collect()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Reads a line of Apache's "combined" form:
    /// `HOST - USER [TIME] "METHOD TARGET HTTP/1.1" STATUS BYTES "REFERER" "USER-AGENT"`.
    fn read(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let (_, request, figures, _, _, user_agent) =
            (quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?, quoted.next()?);
        let mut request = request.split(' ');
        let mut figures = figures.split_whitespace();
        Some(Self {
            method: request.next()?.to_owned(),
            target: request.next()?.to_owned(),
            status: figures.next()?.parse().ok()?,
            bytes: figures.next()?.parse().ok()?,
            user_agent: user_agent.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r#"127.0.0.1 - - [23/Nov/2026:22:56:25 +0000] "GET /v2/a/blobs/sha256:00?ns=b HTTP/1.1" 206 545 "" "shoal/1""#;
        let lines = AccessLine::read_all(line).unwrap();
        let line = &lines[0];
        assert_eq!((line.path(), line.status, line.bytes), ("/v2/a/blobs/sha256:00", 206, 545));
        assert_eq!((&*line.method, &*line.user_agent), ("GET", "shoal/1"));
        assert!(AccessLine::read_all("nonsense").is_err());
    }
}
