//! The clients against a real HTTP server on the loopback.
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use triton_agent::chain;
use triton_headnode::{BaseUrl, CnApi, HttpClient, HttpFailure, HttpOptions, ImgApi};

type Seen = Arc<Mutex<Vec<(Method, Uri, HeaderMap, Bytes)>>>;

/// Answers every request with `answer`, and records it.
async fn server<F, R>(answer: F) -> (BaseUrl, Seen)
where
    F: Fn(Method, Uri, HeaderMap) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send,
{
    let seen = Seen::default();
    let handler = move |State(seen): State<Seen>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        seen.lock().unwrap().push((method.clone(), uri.clone(), headers.clone(), body));
        answer(method, uri, headers)
    };
    let router = Router::new().fallback(handler).with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(triton_agent::http::serve(listener, router, triton_agent::http::ServerLimits::default(), std::future::pending()));
    (base, seen)
}

fn quick() -> HttpClient {
    let mut options = HttpOptions::new("cn-agent/0.1.0 (linux) server/x");
    options.stall_timeout = Duration::from_millis(100);
    HttpClient::new(options)
}

fn cnapi(base: &BaseUrl) -> CnApi {
    CnApi::new(quick(), base.clone(), "564d9386-7c66-1af2-2ba5-1e8c42157f9d".parse().unwrap())
}

/// cn-agent section 5
#[tokio::test]
async fn each_message_goes_to_its_path_with_its_body_and_headers() {
    let (base, seen) = server(|_, _, _| async { StatusCode::NO_CONTENT.into_response() }).await;
    let api = cnapi(&base);
    api.post_sysinfo(&json!({"UUID": "x"})).await.unwrap();
    api.post_agents(&json!([{"name": "cn-agent"}])).await.unwrap();
    api.heartbeat().await.unwrap();
    api.post_status(&json!({"vms": {}})).await.unwrap();
    let seen = seen.lock().unwrap();
    let server = "/servers/564d9386-7c66-1af2-2ba5-1e8c42157f9d";
    let expected = [
        ("/sysinfo", json!({"sysinfo": {"UUID": "x"}})),
        ("", json!({"agents": [{"name": "cn-agent"}]})),
        ("/events/heartbeat", json!({})),
        ("/events/status", json!({"vms": {}})),
    ];
    assert_eq!(seen.len(), expected.len());
    for ((method, uri, headers, body), (path, json)) in seen.iter().zip(expected) {
        assert_eq!((method, uri.path()), (&Method::POST, format!("{server}{path}").as_str()));
        assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), json);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["user-agent"], "cn-agent/0.1.0 (linux) server/x");
        assert_eq!(headers["x-request-id"].len(), 36);
    }
}

#[tokio::test]
async fn a_refusal_keeps_status_code_and_message_and_a_broken_service_is_worth_a_retry() {
    let (base, _) = server(|_, _, _| async {
        (StatusCode::NOT_FOUND, Json(json!({"code": "ResourceNotFound", "message": "no such server"}))).into_response()
    })
    .await;
    let error = cnapi(&base).heartbeat().await.unwrap_err();
    assert_eq!((error.status(), error.rest_code()), (Some(StatusCode::NOT_FOUND), Some("ResourceNotFound")));
    assert!(error.is_not_found() && !error.is_transient());
    let text = chain(&error).to_string();
    assert!(text.contains("POST") && text.contains("/events/heartbeat") && text.contains("no such server"), "{text}");
    let (base, _) = server(|_, _, _| async { (StatusCode::BAD_GATEWAY, "<html>").into_response() }).await;
    let error = cnapi(&base).heartbeat().await.unwrap_err();
    assert!(error.is_transient() && error.rest_code() == Some("(none)"));
}

#[tokio::test]
async fn nobody_silence_and_too_much_are_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed: BaseUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = cnapi(&closed).heartbeat().await.unwrap_err();
    assert!(matches!(*error.source, HttpFailure::Connect(_)), "{error:?}");

    let (base, _) = server(|_, _, _| async { std::future::pending().await }).await;
    let mut options = HttpOptions::new("x");
    options.request_timeout = Duration::from_millis(100);
    let api = ImgApi::new(HttpClient::new(options.clone()), base);
    let error = api.ping().await.unwrap_err();
    assert!(matches!(*error.source, HttpFailure::Timeout(_)) && error.is_transient(), "{error:?}");

    let (base, _) = server(|_, _, _| async { Json(json!({"imgapi": true, "pad": "x".repeat(1000)})).into_response() }).await;
    options.request_timeout = Duration::from_secs(5);
    options.max_reply = 1000;
    let error = ImgApi::new(HttpClient::new(options), base).ping().await.unwrap_err();
    assert!(matches!(*error.source, HttpFailure::TooLarge(1000)) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn only_an_image_server_answers_a_ping() {
    let (base, _) = server(|_, _, _| async { Json(json!({"ping": "pong", "imgapi": true})).into_response() }).await;
    ImgApi::new(quick(), base).ping().await.unwrap();
    let (base, _) = server(|_, _, _| async { Json(json!({"ping": "pong"})).into_response() }).await;
    assert!(ImgApi::new(quick(), base).ping().await.is_err());
    let (base, _) = server(|_, _, _| async { "hello".into_response() }).await;
    let text = chain(&ImgApi::new(quick(), base).ping().await.unwrap_err()).to_string();
    assert!(text.contains("/ping") && text.contains("not JSON"), "{text}");
}

#[tokio::test]
async fn a_list_is_read_to_its_end_by_marker() {
    async fn page(uri: Uri) -> Response {
        let query: Query<std::collections::HashMap<String, String>> = Query::try_from_uri(&uri).unwrap();
        assert_eq!((query["limit"].as_str(), query["state"].as_str()), ("1000", "all"));
        let begin: usize = query.get("marker").map_or(0, |marker| marker.parse::<usize>().unwrap() + 1);
        let images: Vec<Value> = (begin..2500.min(begin + 1000)).map(|n| json!({"uuid": n.to_string()})).collect();
        Json(images).into_response()
    }
    let (base, seen) = server(|_, uri, _| page(uri)).await;
    let images = ImgApi::new(quick(), base).list_images(&[("state", "all")]).await.unwrap();
    assert_eq!((images.len(), seen.lock().unwrap().len()), (2500, 3));
    assert_eq!(images[2499]["uuid"], "2499");
}

#[tokio::test]
async fn a_download_resumes_where_the_server_can_and_begins_anew_where_it_cannot() {
    let uuid = "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10".parse().unwrap();
    let (base, seen) = server(|_, _, headers| async move {
        match headers.get("range").map(|range| range.to_str().unwrap().to_owned()) {
            Some(range) if range == "bytes=4-" => {
                (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 4-9/10")], "456789").into_response()
            }
            Some(_) => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
            None => "0123456789".into_response(),
        }
    })
    .await;
    let api = ImgApi::new(quick(), base);
    for (offset, begins, text) in [(0, 0, "0123456789"), (4, 4, "456789"), (99, 0, "0123456789")] {
        let mut download = api.download(uuid, 1, offset).await.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = download.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        assert_eq!((download.offset, String::from_utf8(all).unwrap().as_str()), (begins, text));
        assert_eq!(download.length, Some(text.len() as u64));
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1.to_string(), format!("/images/{uuid}/file?index=1"));
    assert!(!seen[0].2.contains_key("range"));
}

#[tokio::test]
async fn a_download_that_falls_silent_ends_with_an_error() {
    let (base, _) = server(|_, _, _| async {
        let first = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"abc")) });
        let body = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Body::from_stream(body).into_response()
    })
    .await;
    let mut download = ImgApi::new(quick(), base).download("0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10".parse().unwrap(), 0, 0).await.unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), &b"abc"[..]);
    let error = download.chunk().await.unwrap_err();
    assert!(matches!(*error.source, HttpFailure::Timeout(_)), "{error:?}");
}
