//! Names of structured metadata, and the label `service_name`. Rules as in Loki's distributor.

use bytestring::ByteString;
use rankline_logql::Labels;

/// The label that Grafana's Logs Drilldown starts from.
pub const SERVICE_NAME: &str = "service_name";

/// Labels whose value names the service, the first present one wins (Loki's default `discover_service_name`).
pub const SERVICE_LABELS: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// The stream's labels with `service_name` added where it is missing.
#[must_use]
pub fn with_service_name(labels: &Labels) -> Labels {
    if labels.get(SERVICE_NAME).is_some() {
        return labels.clone();
    }
    let service = SERVICE_LABELS
        .iter()
        .find_map(|name| labels.get(name))
        .unwrap_or("unknown_service");
    Labels::with_repeats(labels.iter().chain([(SERVICE_NAME, service)]))
}

/// A metadata name as LogQL can say it: other characters become `_`, runs of `_` one, and a leading digit gets `key_`
/// before it.
#[must_use]
pub fn sanitize(name: &str) -> ByteString {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = !name.is_empty()
        && name.bytes().all(valid)
        && !name.as_bytes().first().is_some_and(u8::is_ascii_digit)
        && !name.contains("__");
    if fine {
        return name.into();
    }
    let mut out = String::with_capacity(name.len() + 4);
    if name.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        out.push_str("key_");
    }
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    if out.is_empty() {
        out.push('_');
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_sayable() {
        for (name, expected) in [
            ("trace_id", "trace_id"),
            ("a-b", "a_b"),
            ("c.d", "c_d"),
            ("a..b__c", "a_b_c"),
            ("9z", "key_9z"),
            ("ünï", "_n_"),
            ("", "_"),
            ("-", "_"),
        ] {
            assert_eq!(sanitize(name), expected, "{name:?}");
        }
    }

    #[test]
    fn the_service_is_named_by_the_first_known_label() {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let service = |pairs: &[(&str, &str)]| {
            with_service_name(&labels(pairs))
                .get(SERVICE_NAME)
                .map(str::to_owned)
        };
        assert_eq!(service(&[("job", "j"), ("app", "a")]).as_deref(), Some("a"));
        assert_eq!(service(&[("x", "j")]).as_deref(), Some("unknown_service"));
        assert_eq!(
            service(&[("app", "a"), ("service_name", "s")]).as_deref(),
            Some("s")
        );
    }
}
