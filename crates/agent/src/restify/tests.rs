use axum::routing::{get, post};
use tower::ServiceExt;

use super::*;

fn agent() -> Router {
    let routes = Router::new()
        .route("/ping", get(|| async { Json(json!({"ok": true})) }))
        .route("/tasks", post(|body: Body| async { read_body(body, 16, Duration::from_secs(5)).await.map(|b| b.len().to_string()) }));
    finish(routes, Service::new("Compute Node Agent", "cn0"))
}

async fn ask(request: http::Request<Body>) -> (StatusCode, HeaderMap, String) {
    let response = agent().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn request(method: &str, path: &str) -> http::Request<Body> {
    http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

/// cn-agent section 2.2
#[tokio::test]
async fn an_unknown_path_and_a_wrong_verb_have_restifys_bodies_and_not_the_headers_of_routed_replies() {
    let (status, headers, body) = ask(request("GET", "/nothing")).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, r#"{"code":"ResourceNotFound","message":"/nothing does not exist"}"#));
    assert!(!headers.contains_key("x-request-id") && headers[header::SERVER] == "Compute Node Agent");
    let (status, headers, body) = ask(request("GET", "/tasks")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(body, r#"{"code":"MethodNotAllowedError","message":"GET is not allowed"}"#);
    assert_eq!(headers[header::ALLOW], "POST");
    assert!(!headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_routed_reply_echoes_the_request_id_or_makes_one() {
    let mut asked = request("GET", "/ping");
    asked.headers_mut().insert("x-request-id", HeaderValue::from_static("abc"));
    let (status, headers, _) = ask(asked).await;
    assert_eq!((status, headers["x-request-id"].to_str().unwrap()), (StatusCode::OK, "abc"));
    assert_eq!(headers["x-server-name"], "cn0");
    assert!(headers["x-response-time"].to_str().unwrap().parse::<u64>().is_ok());
    let (_, headers, _) = ask(request("GET", "/ping")).await;
    assert_eq!(headers["x-request-id"].len(), 36);
    let mut asked = request("GET", "/ping");
    asked.headers_mut().insert("x-request-id", HeaderValue::from_str(&"a".repeat(500)).unwrap());
    assert_eq!(ask(asked).await.1["x-request-id"].len(), 36);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_restifys_form() {
    let mut asked = request("POST", "/tasks");
    *asked.body_mut() = Body::from("x".repeat(17));
    let (status, _, body) = ask(asked).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(body.contains("RequestEntityTooLarge"), "{body}");
}

#[tokio::test]
async fn an_exception_has_a_message_only() {
    let response = RestError::internal("boom").into_response();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], br#"{"message":"boom"}"#);
}
