//! Who is at the other end of a connection, as far as TLS and TCP know.

use std::net::SocketAddr;

use rustls_pki_types::CertificateDer;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINE: usize = 48;

/// Certificates as PEM (RFC 7468), 64 characters a line, as OpenSSL writes them.
pub fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in certificate.chunks(LINE) {
            for three in line.chunks(3) {
                push(three, &mut text);
            }
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn push(three: &[u8], text: &mut String) {
    let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
    for place in 0..4 {
        let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
        text.push(if place <= three.len() { char::from(digit) } else { '=' });
    }
}

/// The network peer, spelled as gRPC does: `ipv4:10.0.0.7:1234`, `ipv6:%5B::1%5D:1234`.
pub fn spelled(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("ipv4:{}:{}", v4.ip(), v4.port()),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => format!("ipv4:{v4}:{}", v6.port()),
            None => format!("ipv6:%5B{}%5D:{}", v6.ip(), v6.port()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_pads_and_breaks_lines() {
        let of = |bytes: &[u8]| pem(&[CertificateDer::from(bytes.to_vec())]);
        assert!(of(b"fo").contains("\nZm8=\n"));
        assert!(of(b"f").contains("\nZg==\n"));
        assert!(of(b"foo").contains("\nZm9v\n"));
        assert_eq!(of(&[0; 49]).lines().map(str::len).collect::<Vec<_>>(), [27, 64, 4, 25]);
    }

    #[test]
    fn peers_are_spelled_as_grpc_does() {
        assert_eq!(spelled("10.0.0.7:12".parse().unwrap()), "ipv4:10.0.0.7:12");
        assert_eq!(spelled("[::1]:12".parse().unwrap()), "ipv6:%5B::1%5D:12");
        assert_eq!(spelled("[::ffff:10.0.0.7]:12".parse().unwrap()), "ipv4:10.0.0.7:12");
    }
}
