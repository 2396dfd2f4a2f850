//! sezzle-sidecar.
fn main() {}
