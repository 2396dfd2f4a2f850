//! The number that the kernel shows for every user without a number in the user namespace of this process.

use std::path::Path;
use std::sync::OnceLock;

use crate::file::{self, Pipes};

/// The overflow uid. The first call reads the kernel's setting.
pub fn overflow_uid() -> u32 {
    static READ: OnceLock<u32> = OnceLock::new();
    *READ.get_or_init(|| {
        let content = file::read(Path::new(SETTING), LONGEST, Pipes::Refuse).ok();
        let text = content.as_ref().and_then(|content| str::from_utf8(&content.bytes).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL)
    })
}

const SETTING: &str = "/proc/sys/kernel/overflowuid";
const LONGEST: usize = 64;
// The kernel's default.
const USUAL: u32 = 65534;
