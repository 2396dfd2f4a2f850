//! The section `audit`: a record of the calls that move money.

use std::path::PathBuf;

use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// `None` for no audit.
    pub file: Option<PathBuf>,
    /// Whether the sidecar refuses a call whose first line it cannot write.
    pub required: bool,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<AuditSettings> {
    let file = r.optional("audit.file", parse::path);
    let required = r.value("audit.required", "false", parse::boolean);
    if let (Some(None), Some(true)) = (&file, required) {
        r.conflict("audit.required", "audit.file is not set, so there is nothing to write to");
    }
    Some(AuditSettings { file: file?, required: required? })
}
