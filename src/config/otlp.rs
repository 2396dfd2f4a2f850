//! The section `otlp`: where spans go.

use super::parse;
use super::reader::Reader;
use super::settings::OtlpSettings;

/// Reads the section.
pub(super) fn otlp(r: &mut Reader<'_>) -> Option<OtlpSettings> {
    let endpoint = r.optional("otlp.endpoint", parse::otlp_endpoint);
    // Every request is traced unless somebody asks for fewer.
    let sample = r.value("otlp.sample", "1", parse::count(1..=1_000_000));

    if let Some(Some(_)) = endpoint
        && !cfg!(feature = "otlp")
    {
        r.refuse("otlp.endpoint", "this build cannot export spans; use a build with the feature otlp");
    }
    Some(OtlpSettings { endpoint: endpoint?, sample: sample? as u64 })
}
