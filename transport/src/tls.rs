//! What a handshake shows and demands.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The one protocol that is spoken.
pub const ALPN: &[u8] = b"h2";

/// Returns what handshakes are made with; the message of an error is for a person, and has nothing of the key.
pub fn config(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<ServerConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    for root in certificates(roots, "roots")? {
        store.add(root).map_err(|error| format!("a root cannot be used: {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone())
        // Some clients show no certificate when the one that they have is not named, though its chain leads there.
        .clear_root_hint_subjects()
        .build()
        .map_err(|error| format!("the roots cannot be used: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the private key cannot be read".to_owned())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(chain, "certificate chain")?, key)
        .map_err(|error| format!("the certificate chain cannot be used: {error}"))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| format!("the {what} cannot be read"))
}
