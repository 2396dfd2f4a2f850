//! The section `otlp`: where spans go.

use super::bounds::MILLION;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where spans are exported to, the whole URL; nowhere unless set.
    pub endpoint: Option<String>,
    /// One of this many requests without a trace of its caller's begins a trace; at least 1.
    pub sample: u64,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<OtlpSettings> {
    let endpoint = r.optional("otlp.endpoint", parse::otlp_endpoint);
    // Every request is traced unless somebody asks for fewer.
    let sample = r.value("otlp.sample", "1", parse::count(1..=MILLION));

    if let Some(Some(_)) = endpoint
        && !cfg!(feature = "otlp")
    {
        r.refuse("otlp.endpoint", "this build cannot export spans; use a build with the feature otlp");
    }
    Some(OtlpSettings { endpoint: endpoint?, sample: sample? as u64 })
}
