//! The container runtime interface's log format and file names. No files are opened here.
//!
//! A line is `<RFC 3339 time> stdout|stderr P|F[:tags] <text>`; `P` lines go on in the next line of the same stream.

use std::path::Path;

/// One line as the container runtime wrote it.
#[derive(Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    /// Nanoseconds since the epoch.
    pub ts: i64,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// The text goes on in the stream's next line.
    pub partial: bool,
    /// What the container printed.
    pub text: &'a str,
}

/// Reads one line; `None` when it has another format.
pub fn parse_line(line: &str) -> Option<CriLine<'_>> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let stream = match stream {
        "stdout" => "stdout",
        "stderr" => "stderr",
        _ => return None,
    };
    let partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    // Runtimes leave the last space out when the text is empty.
    let text = parts.next().unwrap_or("");
    let ts: jiff::Timestamp = time.parse().ok()?;
    Some(CriLine {
        ts: i64::try_from(ts.as_nanosecond()).ok()?,
        stream,
        partial,
        text,
    })
}

/// A whole line, joined from its partial ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// Time of the first part.
    pub ts: i64,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// The text of all parts.
    pub text: String,
}

/// Joins partial lines, each stream for itself.
#[derive(Debug)]
pub struct Joiner {
    open: [Option<Joined>; 2],
    max_bytes: usize,
}

impl Joiner {
    /// Joined lines of at most about `max_bytes`; a longer one comes out in pieces.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            open: [None, None],
            max_bytes,
        }
    }

    /// Takes a line; gives the line that is whole with it.
    pub fn push(&mut self, line: &CriLine<'_>) -> Option<Joined> {
        let slot = &mut self.open[usize::from(line.stream == "stderr")];
        let joined = slot.get_or_insert_with(|| Joined {
            ts: line.ts,
            stream: line.stream,
            text: String::new(),
        });
        joined.text.push_str(line.text);
        if line.partial && joined.text.len() < self.max_bytes {
            None
        } else {
            slot.take()
        }
    }

    /// Gives out a line whose end never came.
    pub fn flush(&mut self) -> Option<Joined> {
        self.open.iter_mut().find_map(Option::take)
    }

    /// Whether a line waits for its end.
    pub fn is_empty(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }
}

/// Which container a log file belongs to, as its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Container name.
    pub container: String,
}

impl Container {
    /// Reads `…/containers/<pod>_<namespace>_<container>-<64 hex digits>.log` and
    /// `…/pods/<namespace>_<pod>_<uid>/<container>/<n>.log…`.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        Self::from_containers_name(name).or_else(|| Self::from_pods_path(path))
    }

    fn from_containers_name(name: &str) -> Option<Self> {
        let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut parts = rest.split('_');
        let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        parts
            .next()
            .is_none()
            .then(|| Self::new(namespace, pod, container))
            .flatten()
    }

    fn from_pods_path(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let container = path.parent()?;
        let pod_folder = container.parent()?;
        if !file.starts_with(|c: char| c.is_ascii_digit()) || pod_folder.parent()?.file_name()? != "pods" {
            return None;
        }
        let mut parts = pod_folder.file_name()?.to_str()?.split('_');
        let (namespace, pod, _uid) = (parts.next()?, parts.next()?, parts.next()?);
        Self::new(namespace, pod, container.file_name()?.to_str()?)
    }

    fn new(namespace: &str, pod: &str, container: &str) -> Option<Self> {
        let known = !(namespace.is_empty() || pod.is_empty() || container.is_empty());
        known.then(|| Self {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_lines_of_containerd_and_crio() {
        let line = parse_line("2026-01-02T03:04:05.000000006Z stderr F a  b ").unwrap();
        assert_eq!(
            (line.ts, line.stream, line.partial, line.text),
            (1767323045000000006, "stderr", false, "a  b ")
        );
        let zoned = parse_line("2026-01-02T04:04:05.000000006+01:00 stdout P:x y").unwrap();
        assert_eq!((zoned.ts, zoned.stream, zoned.partial), (line.ts, "stdout", true));
        assert_eq!(parse_line("2026-01-02T03:04:05Z stdout F").unwrap().text, "");
    }

    #[test]
    fn leaves_other_lines_alone() {
        for line in [
            "",
            "step 1",
            "2026-01-02T03:04:05Z stdout X a",
            "yesterday stdout F a",
            "2026-01-02T03:04:05Z out F a",
        ] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }

    #[test]
    fn joins_each_stream_for_itself() {
        let mut joiner = Joiner::new(1000);
        let mut push = |text: &str| {
            joiner
                .push(&parse_line(text).unwrap())
                .map(|j| (j.ts % 60_000_000_000, j.text))
        };
        assert_eq!(push("2026-01-02T03:04:01Z stdout P a"), None);
        assert_eq!(
            push("2026-01-02T03:04:02Z stderr F err"),
            Some((2_000_000_000, "err".into()))
        );
        assert_eq!(
            push("2026-01-02T03:04:03Z stdout F b"),
            Some((1_000_000_000, "ab".into()))
        );
        assert_eq!(push("2026-01-02T03:04:04Z stderr P cut"), None);
        assert_eq!(joiner.flush().map(|j| j.text), Some("cut".into()));
        assert!(joiner.is_empty());
    }

    #[test]
    fn file_names_say_the_container() {
        let id = "0a".repeat(32);
        let container = Container::from_path(Path::new(&format!(
            "/var/log/containers/llama-worker-0_ml_train-main-{id}.log"
        )));
        assert_eq!(container, Container::new("ml", "llama-worker-0", "train-main"));
        let pod = Container::from_path(Path::new(
            "/var/log/pods/ml_llama-0_uid-1/train/3.log.20260102-030405",
        ));
        assert_eq!(pod, Container::new("ml", "llama-0", "train"));
        for other in ["/var/log/train.log", "/tmp/a_b_c-12.log", "/x/y/0.log"] {
            assert_eq!(Container::from_path(Path::new(other)), None, "{other}");
        }
    }
}
