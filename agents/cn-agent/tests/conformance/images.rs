//! Cases 40 and 41: images.

use serde_json::json;
use triton_types::ImageUuid;

use crate::support::{Bed, eventually};

/// cn-agent case 40
#[tokio::test]
async fn an_installed_image_is_not_imported_again() {
    let bed = Bed::start().await;
    let image = ImageUuid::random();
    bed.node.images.lock().unwrap().insert(image);
    assert_eq!(bed.task("image_ensure_present", json!({"image_uuid": image, "imgapiPeers": [{}]})).await.seen(), (200, "{}"));
    assert!(bed.node.calls().is_empty());
}

/// cn-agent case 40
#[tokio::test]
async fn requests_for_a_missing_image_at_once_import_it_once_and_all_succeed() {
    let bed = Bed::start().await;
    let image = ImageUuid::random();
    bed.node.close_gate();
    let requests: Vec<_> =
        (0..5).map(|_| bed.later("image_ensure_present", json!({"image_uuid": image, "zfs_storage_pool_name": "tank"}))).collect();
    bed.called("import").await;
    while bed.history().await.len() < 5 {}
    bed.node.open_gate();
    for request in requests {
        assert_eq!(request.await.unwrap().seen(), (200, "{}"));
    }
    assert_eq!(bed.node.calls(), [format!("import {image} Some(\"tank\")")]);
}

#[tokio::test]
async fn an_import_that_fails_is_told_and_can_be_tried_again() {
    let bed = Bed::start().await;
    let image = ImageUuid::random();
    bed.node.fail("import", "download broke off");
    assert_eq!(bed.task("image_ensure_present", json!({"image_uuid": image})).await.seen(), (500, r#"{"error":"download broke off"}"#));
    assert_eq!(bed.task("image_ensure_present", json!({"image_uuid": image})).await.seen(), (200, "{}"));
    eventually("both tries", || (bed.node.calls().len() == 2).then_some(())).await;
    assert_eq!(bed.task("image_ensure_present", json!({})).await.json()["error"], "Required 'image_uuid' param not found");
}

/// cn-agent case 41
#[tokio::test]
async fn image_get_gives_the_manifest_or_upstreams_words() {
    let bed = Bed::start().await;
    let image = ImageUuid::random();
    let reply = bed.task("image_get", json!({"uuid": image})).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(reply.status, 500);
    assert!(
        error.starts_with(&format!("Image.get error: error getting image {image}:\n    cmd: imgadm get {image}\n    stderr: ")),
        "{error}"
    );
    bed.node.images.lock().unwrap().insert(image);
    assert_eq!(bed.task("image_get", json!({"uuid": image})).await.json(), json!({"v": 2, "uuid": image}));
}

/// cn-agent section 3.6
#[tokio::test]
async fn an_image_is_created_as_asked_and_a_failure_can_be_read_back() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(false, false);
    let params = json!({"uuid": uuid, "compression": "gzip", "imgapi_url": "http://imgapi", "manifest": {"name": "a"}, "incremental": "true",
        "max_origin_depth": "7"});
    assert_eq!(bed.task("machine_create_image", params.clone()).await.seen(), (200, "{}"));
    assert_eq!(bed.node.calls(), [format!("create_image {uuid} gzip http://imgapi {{\"name\":\"a\"}} true Some(7) None")]);
    bed.node.fail("create_image", "the \"reason\"");
    let reply = bed.task("machine_create_image", params.clone()).await;
    assert_eq!(reply.status, 500);
    let inner: serde_json::Value = serde_json::from_str(reply.json()["error"].as_str().unwrap()).unwrap();
    assert_eq!(inner["message"], "the \"reason\"");
    for (key, message) in [
        ("manifest", "Required 'manifest' param not found"),
        ("imgapi_url", "Required 'imgapi_url' param not found"),
        ("uuid", "Required 'uuid' param not found"),
    ] {
        let mut params = params.clone();
        params.as_object_mut().unwrap().remove(key);
        assert_eq!(bed.task("machine_create_image", params).await.json()["error"], message);
    }
}
