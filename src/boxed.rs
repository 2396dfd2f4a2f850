//! Boxes whose content is made within them.
//!
//! `Box::new` and `Box::pin` get a value that was made elsewhere, and copy all of its room. A future of a call has some
//! KB of room, of which only its arguments hold anything at first.

use std::pin::Pin;

/// Makes a value in a box. The room comes first, because the compiler can make a value in place if nothing can fail
/// between its making and its placing, and if it sees both at once. So a plain function that `make` calls should be
/// `#[inline]`.
#[inline(always)]
pub fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

/// Makes a future in a box.
#[inline(always)]
pub fn boxed_future<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(boxed(make))
}
