//! The typed client against the routes, over a socket.
//! What one writes the other understands.

use coracle_api::{CodeKind, SettingsView};

use super::*;

/// Serves the routes on a port of their own; gives the URL.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let router = router.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                router.clone().call(request.map(Body::new))
            });
            let io = hyper_util::rt::TokioIo::new(io);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    url
}

#[tokio::test]
async fn the_client_and_the_routes_understand_each_other() {
    let server = Server::open().await;
    let client = coracle_api::Client::new(&serve(server.router.clone()).await, Some(&server.token)).unwrap();
    let file = server.dir.path().join("abc");
    std::fs::write(&file, "abc").unwrap();
    let uploaded = client.upload(&file, |_| ()).await.unwrap();
    assert_eq!(client.artifact(&uploaded.digest).await.unwrap(), Some(uploaded));
    assert_eq!(client.artifact(&Digest::from_bytes([0; 32])).await.unwrap(), None);
    assert_eq!(client.whoami().await.unwrap().scope, Some(Scope::Admin));
    assert_eq!(client.status().await.unwrap().functions, 0);

    let mut settings = Settings::default();
    settings.env.insert("LEVEL".into(), "info".into());
    let function = FunctionRef::parse("hello").unwrap();
    server.deploy("hello", settings.clone()).await;
    server.deploy("other", Settings::default()).await;
    assert_eq!(
        client.function(&function).await.unwrap().settings,
        SettingsView::new(CodeKind::Wasm, &settings)
    );
    let by_one = coracle_api::FunctionQuery { limit: Some(1), ..Default::default() };
    assert_eq!(client.functions_all(&by_one).await.unwrap().len(), 2);
    assert_eq!(client.revisions(&function).await.unwrap()[0].number, 1);
    client.remove(&function).await.unwrap();
    assert!(matches!(client.function(&function).await, Err(coracle_api::ClientError::Problem(_))));

    let request = coracle_api::TokenRequest {
        label: "ci".into(),
        scope: Scope::Call,
        namespace: None,
        function: None,
        expires_in: None,
    };
    let created = client.create_token(&request).await.unwrap();
    assert!(client.tokens().await.unwrap().contains(&created.view));
    client.revoke_token(&created.view.id).await.unwrap();

    server.admin.observe.logs.write(line("2026-01-31T11:59:00Z", "hi"));
    let query = coracle_api::LogQuery { follow: true, ..Default::default() };
    let mut lines = client.logs(&query).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "hi");
}

/// Larger than what the sockets between them hold, so that the server answers while the client still sends.
#[tokio::test]
async fn a_client_that_uploads_too_much_reads_why() {
    let mut server = Server::open().await;
    server.admin.upload_bytes_max = 8 << 20;
    let url = serve(server.admin.clone().router()).await;
    let client = coracle_api::Client::new(&url, Some(&server.token)).unwrap();
    let file = server.dir.path().join("large");
    std::fs::File::create(&file).unwrap().set_len(15 << 20).unwrap();
    match client.upload(&file, |_| ()).await {
        Err(coracle_api::ClientError::Problem(problem)) => assert_eq!(problem.code, "request-too-large"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn metrics_answer_without_a_token_on_an_address_of_their_own() {
    let server = Server::open().await;
    server.admin.observe.metrics.function(&FunctionRef::parse("hello").unwrap());
    let mut router = server.admin.clone().metrics_router();
    let Ok(response) = router.call(request("", "GET /metrics", Body::empty())).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(r#"function="hello""#), "{body:?}");
    let Ok(response) = router.call(request("", "GET /v1/status", Body::empty())).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
