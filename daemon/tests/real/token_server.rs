//! A token service as a registry names it in its challenge: it gives users, and for public repositories anybody, JWTs that it
//! signs and that the registry checks against its certificate.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

const SERVICE: &str = "the registry";
const ISSUER: &str = "the token service";
const LIFE_SECONDS: u64 = 300;

/// A service that runs until the test ends.
pub(crate) struct TokenServer {
    url: String,
    certificate: PathBuf,
    service: Arc<Service>,
}

struct Service {
    users: HashMap<String, String>,
    public: Vec<String>,
    key: EncodingKey,
    certificate: String,
    /// To whom tokens were given.
    served: Mutex<Vec<Option<String>>>,
}

impl TokenServer {
    /// Starts one whose certificate is put into `dir`. Its users may pull and push everything.
    pub(crate) async fn start(dir: &Path, users: &[(&str, &str)], public: &[&str]) -> anyhow::Result<Self> {
        let pair = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["token.test".to_owned()])?.self_signed(&pair)?;
        let path = dir.join("token-service.pem");
        fs::write(&path, certificate.pem())?;
        let service = Arc::new(Service {
            users: users.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect(),
            public: public.iter().map(|name| (*name).to_owned()).collect(),
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            certificate: STANDARD.encode(certificate.der()),
            served: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/token", listener.local_addr()?);
        let router = Router::new().route("/token", get(token)).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, certificate: path, service })
    }

    /// What a registry's configuration says so that it sends its clients here.
    pub(crate) fn auth(&self) -> String {
        format!(
            "auth:\n  token:\n    realm: {}\n    service: {SERVICE}\n    issuer: {ISSUER}\n    rootcertbundle: {}\n",
            self.url,
            self.certificate.display()
        )
    }

    /// How many tokens a user was given; nobody's, where none is named.
    pub(crate) fn served(&self, user: Option<&str>) -> usize {
        self.service.served.lock().unwrap().iter().filter(|served| served.as_deref() == user).count()
    }
}

impl Service {
    /// Who asks: nobody, or a user with the right password.
    fn user(&self, headers: &HeaderMap) -> Result<Option<String>, StatusCode> {
        let Some(shown) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let pair = shown.to_str().ok().and_then(|text| text.strip_prefix("Basic "));
        let pair = pair.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or(StatusCode::UNAUTHORIZED)?;
        let right = self.users.get(user).is_some_and(|expected| expected == password);
        if right { Ok(Some(user.to_owned())) } else { Err(StatusCode::UNAUTHORIZED) }
    }

    /// What is granted of a scope such as `repository:a/b:pull,push`.
    fn grant(&self, user: Option<&str>, scope: &str) -> Option<serde_json::Value> {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let public = self.public.iter().any(|public| public == name);
        let may = |action: &&str| user.is_some() || (public && *action == "pull");
        let actions: Vec<&str> = actions.split(',').filter(may).collect();
        (!actions.is_empty()).then(|| json!({ "type": "repository", "name": name, "actions": actions }))
    }
}

async fn token(
    State(service): State<Arc<Service>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let user = match service.user(&headers) {
        Ok(user) => user,
        Err(status) => return status.into_response(),
    };
    let scopes = query.iter().filter(|(key, _)| key == "scope").flat_map(|(_, scope)| scope.split(' '));
    let access: Vec<_> = scopes.filter_map(|scope| service.grant(user.as_deref(), scope)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": ISSUER, "sub": user.clone().unwrap_or_default(), "aud": SERVICE, "jti": "one",
        "iat": now, "nbf": now - 30, "exp": now + LIFE_SECONDS, "access": access,
    });
    let head = Header { x5c: Some(vec![service.certificate.clone()]), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&head, &claims, &service.key).unwrap();
    service.served.lock().unwrap().push(user);
    let answer = json!({ "token": token, "access_token": token, "expires_in": LIFE_SECONDS });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
