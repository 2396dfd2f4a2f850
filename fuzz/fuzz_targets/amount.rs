#![cfg_attr(fuzzing, no_main)]

#[path = "../properties/amount.rs"]
mod amount;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| amount::holds(data));

/// Without a fuzzer: one input from standard input, to look at what a fuzzer has found.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    let mut data = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut data)?;
    amount::holds(&data);
    Ok(())
}
