//! ES256 signatures (RFC 7518 section 3.4): a list at once, without Python's lock, and a long one on all cores.

use std::sync::OnceLock;
use std::thread;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Signature};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// To wake another core for fewer takes longer than to sign them.
const SHARE: usize = 16;

/// A P-256 private key. It is never given back.
#[pyclass(frozen, module = "issuer_transport")]
pub struct SigningKey(EcdsaKeyPair);

#[pymethods]
impl SigningKey {
    /// Args: the key as PKCS #8. Raises ValueError when it is not a P-256 key.
    #[new]
    fn new(pkcs8: &[u8]) -> PyResult<Self> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        key.map(Self).map_err(|_| PyValueError::new_err("not a P-256 key in PKCS #8"))
    }

    /// Return `r || s` over each, 64 octets. Raises RuntimeError when the library cannot sign one of them.
    fn sign<'py>(&self, py: Python<'py>, inputs: Vec<Bound<'py, PyBytes>>) -> PyResult<Bound<'py, PyList>> {
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| input.as_bytes()).collect();
        let signatures = py.detach(|| self.sign_all(&inputs));
        let signatures = signatures.map_err(|_| PyRuntimeError::new_err("the library cannot sign"))?;
        PyList::new(py, signatures.iter().map(|signature| PyBytes::new(py, signature.as_ref())))
    }
}

impl SigningKey {
    fn sign_all(&self, inputs: &[&[u8]]) -> Result<Vec<Signature>, Unspecified> {
        let helpers = if inputs.len() < 2 * SHARE { None } else { helpers() };
        let Some(helpers) = helpers else { return self.sign_some(inputs) };
        let share = inputs.len().div_ceil(helpers.current_num_threads() + 1).max(SHARE);
        let mut parts: Vec<_> = inputs.chunks(share).map(|some| (some, Ok(Vec::new()))).collect();
        helpers.in_place_scope(|scope| {
            let mut parts = parts.iter_mut();
            let own = parts.next();
            for (some, signed) in parts {
                scope.spawn(|_| *signed = self.sign_some(some));
            }
            if let Some((some, signed)) = own {
                *signed = self.sign_some(some);
            }
        });
        let mut all = Vec::with_capacity(inputs.len());
        for (_, signed) in parts {
            all.append(&mut signed?);
        }
        Ok(all)
    }

    fn sign_some(&self, inputs: &[&[u8]]) -> Result<Vec<Signature>, Unspecified> {
        let unused = SystemRandom::new(); // the library has its own
        inputs.iter().map(|input| self.0.sign(&unused, input)).collect()
    }
}

/// Returns a thread for each other core, made when they are first of use; none where they cannot be had.
fn helpers() -> Option<&'static ThreadPool> {
    static HELPERS: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let made = || {
        let others = thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
        let pool = ThreadPoolBuilder::new().num_threads(others).thread_name(|number| format!("signing-{number}"));
        if others == 0 { None } else { pool.build().ok() }
    };
    HELPERS.get_or_init(made).as_ref()
}
