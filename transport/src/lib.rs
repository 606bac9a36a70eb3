//! gRPC over mutual TLS for the issuer: a server in one thread of its own, which never takes Python's lock.
//!
//! Calls are read whole and put into a queue; Python is woken once for all that are there, and takes them as a list.
//! Answers come as a list too. What a caller may do is not decided here: TLS proves that it holds the key of a
//! certificate that one of the roots vouches for, and Python verifies that certificate for each call. Only when there is
//! too much to do are calls refused here, of callers whom Python has named.
//!
//! Beside it: signatures over what Python gives, by the list (`signing.rs`).

mod calls;
mod connections;
mod guards;
mod headers;
mod peer;
mod pings;
mod python;
mod queue;
mod requests;
mod shedding;
mod signing;
mod tls;

use pyo3::prelude::*;

/// What `issuer/native_wheel.py` expects; to be raised with every change that it would notice.
const INTERFACE: u32 = 5;

/// The transport of the issuer.
#[pymodule]
fn issuer_transport(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<python::Server>()?;
    module.add_class::<python::Peer>()?;
    module.add_class::<python::Headers>()?;
    module.add_class::<python::Allowance>()?;
    module.add_class::<signing::SigningKey>()
}
