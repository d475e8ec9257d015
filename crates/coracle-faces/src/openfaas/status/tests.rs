//! Documents of functions against what was sent at their deploys: as examples, and as a claim about all that may be sent.
//! Functions that were deployed in other words are here too.

use coracle_model::{Contract, FunctionRef, Original, SecretName};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::deployment::{Deployment, Resources, Wanted};
use super::*;

fn revision(function: &str, code: Code, settings: Settings) -> Revision {
    let function = FunctionRef::parse(function).unwrap();
    let created = Timestamp::UNIX_EPOCH;
    Revision { function, number: 1, code, contract: Contract::Http, settings, created }
}

fn deployed(deployment: &Deployment) -> Revision {
    let Wanted { function, image, settings } = deployment.wanted().unwrap();
    let code = Code::Image { reference: image, digest: Digest::from_bytes([7; 32]) };
    Revision { function, ..revision("f", code, settings) }
}

fn idle(revision: &Revision) -> Status<'_> {
    let created = "2026-01-31T12:00:00Z".parse().unwrap();
    Status { revision, created, replicas: 0, available: 0, invocations: None, usage: None }
}

fn value(status: &Status<'_>) -> Value {
    let mut out = String::new();
    status.render(&mut out);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn check(status: &Status<'_>, expected: Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(&value(status)).unwrap());
}

#[test]
fn where_nothing_was_sent_nothing_is_said_but_labels_and_annotations_are_never_null() {
    let revision = deployed(&Deployment::new("hello", "nginx"));
    check(
        &idle(&revision),
        expect![[r#"
        {
          "annotations": {},
          "createdAt": "2026-01-31T12:00:00Z",
          "image": "nginx",
          "labels": {
            "faas_function": "hello"
          },
          "name": "hello",
          "namespace": "openfaas-fn"
        }"#]],
    );
}

#[test]
fn all_that_was_sent_is_said_and_how_it_is_now() {
    let body = r#"{"service":"resize","image":"acme/resize:1","namespace":"shop","envProcess":"cat","envVars":{"a":"b"},
        "constraints":[],"secrets":["key"],"labels":{"team":"media"},"annotations":{"topic":"x\"y"},"limits":{"memory":"64Mi"},
        "requests":{},"readOnlyRootFilesystem":false,"network":"n"}"#;
    let revision = deployed(&Deployment::parse(body.as_bytes()).unwrap());
    let usage = Some(Usage { cpu: Some(12.5), total_memory_bytes: 4_096.0 });
    let status = Status { replicas: 2, available: 1, invocations: Some(7), usage, ..idle(&revision) };
    check(
        &status,
        expect![[r#"
        {
          "annotations": {
            "topic": "x\"y"
          },
          "availableReplicas": 1,
          "constraints": [],
          "createdAt": "2026-01-31T12:00:00Z",
          "envProcess": "cat",
          "envVars": {
            "a": "b"
          },
          "image": "acme/resize:1",
          "invocationCount": 7,
          "labels": {
            "faas_function": "resize",
            "team": "media"
          },
          "limits": {
            "memory": "64Mi"
          },
          "name": "resize",
          "namespace": "shop",
          "network": "n",
          "readOnlyRootFilesystem": false,
          "replicas": 2,
          "requests": {},
          "secrets": [
            "key"
          ],
          "usage": {
            "cpu": 12.5,
            "totalMemoryBytes": 4096.0
          }
        }"#]],
    );
}

#[test]
fn a_function_that_was_deployed_in_our_words_is_told_in_theirs() {
    let digest = Digest::from_bytes([0xab; 32]);
    let mut settings = Settings { secrets: vec![SecretName::parse("key").unwrap()], ..Settings::default() };
    settings.env.insert("LEVEL".into(), "info".into());
    settings.limits.memory_bytes = 64 << 20;
    settings.program.cpu_millis = Some(500);
    settings.program.read_only = true;
    check(
        &idle(&revision("Resize_2.shop", Code::Bundle(digest), settings)),
        expect![[r#"
        {
          "annotations": {},
          "createdAt": "2026-01-31T12:00:00Z",
          "envVars": {
            "LEVEL": "info"
          },
          "image": "coracle/bundle:abababababab",
          "labels": {
            "faas_function": "Resize_2"
          },
          "limits": {
            "cpu": "500m",
            "memory": "64Mi"
          },
          "name": "Resize_2",
          "namespace": "shop",
          "readOnlyRootFilesystem": true,
          "secrets": [
            "key"
          ]
        }"#]],
    );
    check(
        &idle(&revision("f", Code::Wasm(digest), Settings::default())),
        expect![[r#"
        {
          "annotations": {},
          "createdAt": "2026-01-31T12:00:00Z",
          "image": "coracle/wasm:abababababab",
          "labels": {
            "faas_function": "f"
          },
          "name": "f",
          "namespace": "openfaas-fn"
        }"#]],
    );
}

#[test]
fn a_document_that_cannot_be_read_gives_way_to_the_settings() {
    let read = |document: &str, face: &str| {
        let original = Some(Original { face: face.to_owned(), document: document.to_owned() });
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let code = Code::Image { reference: "nginx".into(), digest: Digest::from_bytes([7; 32]) };
        value(&idle(&revision("f", code, Settings { original, labels, ..Settings::default() })))
    };
    let of_settings = read("", "none");
    assert_eq!(of_settings["labels"], json!({"a": "b", "faas_function": "f"}));
    for document in ["", "[]", "{", r#"{"labels":null}"#, r#"{"annotations":[]}"#, r#"{"image":1}"#] {
        assert_eq!(read(document, FACE), of_settings, "{document}");
    }
    let theirs = r#"{ "image" : "x", "labels" : { "c" : "d" }, "replicas": 9, "createdAt": "never" }"#;
    assert_eq!(read(theirs, "aws"), of_settings);
    let kept = read(theirs, FACE);
    assert_eq!(kept["labels"], json!({"c": "d", "faas_function": "f"}));
    assert_eq!((&kept["replicas"], &kept["createdAt"]), (&Value::Null, &of_settings["createdAt"]));
}

#[test]
fn the_name_of_a_function_is_its_label_whatever_was_sent() {
    let labels = Some([(NAME_LABEL.to_owned(), "other".to_owned())].into());
    let revision = deployed(&Deployment { labels, ..Deployment::new("f", "i") });
    assert_eq!(value(&idle(&revision))["labels"], json!({"faas_function": "f"}));
}

#[test]
fn a_list_holds_them_in_their_order() {
    let revisions = ["a", "b", "c"].map(|name| deployed(&Deployment::new(name, "i")));
    let list: Value = serde_json::from_str(&render_list(revisions.iter().map(idle))).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|status| status["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(render_list([]), "[]");
}

fn pairs() -> impl Strategy<Value = Option<BTreeMap<String, String>>> {
    prop::option::of(prop::collection::btree_map("\\PC{0,8}", "\\PC{0,12}", 0..3))
}

proptest! {
    #[test]
    fn what_is_said_back_is_what_was_sent(
        labels in pairs(), annotations in pairs(), env_vars in pairs(), env_process in prop::option::of("\\PC{0,9}"),
        constraints in prop::option::of(prop::collection::vec("\\PC{0,9}", 0..3)),
        memory in prop::option::of("[1-9]Gi"), read_only in prop::option::of(any::<bool>()), more in "\\PC{1,9}",
    ) {
        let deployment = Deployment {
            labels, env_vars, env_process, constraints,
            // A path or a grant that is wrong is refused; which ones are is tested elsewhere.
            annotations: annotations.map(|all| all.into_iter().map(|(key, text)| (format!("x-{key}"), text)).collect()),
            limits: memory.map(|memory| Resources { memory: Some(memory), ..Resources::default() }),
            read_only_root_filesystem: read_only,
            others: [(format!("x-{more}"), json!({"deep": [1, more]}))].into_iter().collect(),
            ..Deployment::new("f", "i")
        };
        let mut said = value(&idle(&deployed(&deployment)));
        let said = said.as_object_mut().unwrap();
        let mut expected = serde_json::to_value(&deployment).unwrap();
        expected["name"] = expected.as_object_mut().unwrap().remove("service").unwrap();
        expected["namespace"] = json!("openfaas-fn");
        expected["createdAt"] = said["createdAt"].clone();
        for key in ["labels", "annotations"] {
            if expected.get(key).is_none() {
                expected[key] = json!({});
            }
        }
        expected["labels"][NAME_LABEL] = json!("f");
        prop_assert_eq!(&Value::Object(said.clone()), &expected);
    }
}
