//! Boxes for large futures.

use std::pin::Pin;

/// Boxes a future, and makes the future within its box. `Box::pin` gets a future that was made elsewhere, and copies its
/// whole room, which may be some KB. At first only the arguments of the future hold anything.
#[inline(always)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    // The room comes first: the compiler makes a value in place if nothing can fail in between.
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
