// A reference of the bench suite: an OAuth server that answers client_credentials over mutual TLS (RFC 8705) with a JWT
// access token (RFC 9068, at+jwt, ES256), as our issuer does; without policy of its own, and without a durable record.
//
// Usage: node server.mjs ROOTS CHAIN KEY AUDIENCE SCOPE CALLER. Prints its address, then serves until its standard input
// ends. The client is known by the URI in its certificate, which is its SPIFFE ID.

import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const [roots, chain, key, audience, scope, caller] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider('https://127.0.0.1', {
  clients: [{
    client_id: 'bench',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_san_uri: caller,
    id_token_signed_response_alg: 'ES256',
  }],
  clientAuthMethods: ['tls_client_auth'],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'ES256', use: 'sig' }] },
  scopes: [scope],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_uri'
        && ctx.socket.getPeerX509Certificate().subjectAltName.split(', ').includes(`URI:${expected}`),
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope, audience, accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

const server = createServer({
  ca: readFileSync(roots), cert: readFileSync(chain), key: readFileSync(key), requestCert: true, rejectUnauthorized: true,
}, provider.callback());
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit(0)).resume();
