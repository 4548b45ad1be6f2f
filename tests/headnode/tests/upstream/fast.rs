//! A bare client of FAST, and what every server of FWAPI's must answer it: the stand-in, and upstream's own.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use triton_fast::{Decoder, Frame, Status};

/// A connection, and what came over it.
pub struct Bare {
    stream: TcpStream,
    decoder: Decoder,
}

impl Bare {
    pub async fn connect(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), decoder: Decoder::default() }
    }

    pub async fn call(&mut self, id: u32, method: &str, data: Value) {
        let frame = Frame { id, status: Status::Data, method: method.to_owned(), data };
        self.stream.write_all(&frame.encode(1_735_689_600_000_000).unwrap()).await.unwrap();
    }

    pub async fn next(&mut self) -> Frame {
        let mut buffer = [0; 4096];
        loop {
            // The decoder looks at the version and its checksum.
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let read = tokio::time::timeout(std::time::Duration::from_secs(20), self.stream.read(&mut buffer)).await;
            let count = read.expect("nothing came in 20 s").unwrap();
            assert!(count > 0, "the server closed the connection");
            self.decoder.feed(&buffer[..count]);
        }
    }
}

/// firewaller cases F2, F3, F4, F8
pub async fn answers_as_fwapi_does(address: &str, event: impl FnOnce()) {
    let mut bare = Bare::connect(address).await;
    bare.call(1, "ping", json!([{}])).await;
    let answer = bare.next().await;
    assert_eq!((answer.id, answer.status, answer.method.as_str(), &answer.data), (1, Status::End, "ping", &json!([])), "F2");

    bare.call(5, "nope", json!([])).await;
    let answer = bare.next().await;
    assert_eq!((answer.id, answer.status), (5, Status::Error), "F3");
    assert_eq!((&answer.data["name"], &answer.data["message"]), (&json!("FastError"), &json!("unsupported RPC method: \"nope\"")));
    assert_eq!(answer.data["info"], json!({"fastReason": "bad_method", "rpcMethod": "nope", "rpcMsgid": 5}));

    for (id, arguments, message) in
        [(6, json!([]), "\"messages\" RPC expects one argument"), (7, json!([{}]), "clients must provide their \"client_id\"")]
    {
        bare.call(id, "messages", arguments).await;
        let answer = bare.next().await;
        assert_eq!((answer.id, answer.status, &answer.data["message"]), (id, Status::Error, &json!(message)), "F4");
    }

    bare.call(8, "messages", json!([{"client_id": "bare", "version": 1}])).await;
    let state = bare.next().await;
    assert_eq!((state.id, state.status, &state.data[0]["name"]), (8, Status::Data, &json!("sync")), "the connection is still good");
    bare.call(9, "ping", json!([{"req_id": "x"}])).await;
    let answer = bare.next().await;
    assert_eq!((answer.id, answer.status), (9, Status::End), "F8: answered between two events");
    event();
    let pushed = bare.next().await;
    assert_eq!((pushed.id, pushed.status, &pushed.data[0]["name"]), (8, Status::Data, &json!("fw.add_rule")), "the stream goes on");
}
