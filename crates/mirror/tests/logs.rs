//! A failure is logged with what was asked for, on one line whatever the request contained.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::{
    io,
    sync::{Arc, Mutex},
};

use house::{Fake, House};
use shoal_mirror::Failure;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> String {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        // The clients' own words are of no interest here.
        text.lines().filter(|line| line.contains("shoal_mirror")).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn a_failure_names_what_was_asked() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).without_time().finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let house = House::new(Fake::of(vec![1])).await;

    *house.fake.failure.lock().unwrap() = Some(Failure::StoreFull { reason: "two\nlines".to_owned() });
    house.get(&house.blob_path(), &[("authorization", "Bearer secret")]).await;
    let line = lines.take();
    for part in
        ["WARN", "r.io", "repository=\"a\"", &house.fake.digest.to_string(), "status=503", "UNAVAILABLE", "two\\nlines"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(line.contains("caller=127.0.0.1:") && line.lines().count() == 1 && !line.contains("secret"), "{line}");

    house.get("/v2/a%0Ab/manifests/v1", &[]).await;
    let line = lines.take();
    assert!(line.contains("INFO") && line.contains("NAME_INVALID") && line.contains("a%0Ab"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}
