//! Stack files as data: what they say, and what is said of their mistakes.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Stack, Invalid> {
    Stack::parse(text, &|name| (name == "TAG").then(|| "1.4.2".to_owned()))
}

fn functions(text: &str) -> Vec<Function> {
    parse(text).unwrap().functions
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn amounts(memory: &str, cpu: Option<&str>) -> Resources {
    Resources { memory: Some(memory.to_owned()), cpu: cpu.map(str::to_owned), ..Resources::default() }
}

/// The error of a text.
fn check(text: &str, expected: Expect) {
    let error = parse(text).expect_err("a mistake");
    let place = error.place.map(|(line, column)| format!("{line}:{column}: ")).unwrap_or_default();
    let hint = error.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    expected.assert_eq(&format!("{place}{}\n| {}{hint}", error.message, error.line.unwrap_or_default()));
}

#[test]
fn every_key_of_a_function_is_understood() {
    let text = "\
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:8080
configuration:
  templates:
    - name: golang-http
      source: https://example.com/t
  copy: [./common]
functions:
  shop:
    lang: golang-http
    handler: ./shop
    image: registry.example.com/team/shop:${TAG:-latest}
    fprocess: ./handler --fast
    namespace: staging
    environment:
      LEVEL: info
    environment_file: [common.yml, shop.yml]
    secrets: [api-key, db]
    labels: {com.openfaas.scale.min: 2}
    annotations: {topic: orders}
    constraints: ['node.platform.os == linux']
    limits: {memory: 128Mi, cpu: 500m}
    requests: {memory: 64Mi}
    readonly_root_filesystem: true
    skip_build: false
    build_options: [dev]
    build_args: {A: b}
    build_secrets: {T: ./t}
    platforms: linux/amd64
  plain:
    image: plain
";
    let expected = Function {
        name: "shop".into(),
        image: "registry.example.com/team/shop:1.4.2".into(),
        namespace: Some("staging".into()),
        fprocess: Some("./handler --fast".into()),
        environment: map(&[("LEVEL", "info")]),
        environment_files: vec!["common.yml".into(), "shop.yml".into()],
        secrets: vec!["api-key".into(), "db".into()],
        labels: map(&[("com.openfaas.scale.min", "2")]),
        annotations: map(&[("topic", "orders")]),
        constraints: vec!["node.platform.os == linux".into()],
        limits: Some(amounts("128Mi", Some("500m"))),
        requests: Some(amounts("64Mi", None)),
        read_only: Some(true),
        is_built: true,
        place: (11, 3),
        places: BTreeMap::new(),
    };
    let plain = Function {
        name: "plain".into(),
        image: "plain".into(),
        namespace: None,
        fprocess: None,
        environment: BTreeMap::new(),
        environment_files: Vec::new(),
        secrets: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        constraints: Vec::new(),
        limits: None,
        requests: None,
        read_only: None,
        is_built: false,
        place: (32, 3),
        places: BTreeMap::new(),
    };
    let mut functions = functions(text);
    functions.iter_mut().for_each(|function| function.places.clear());
    assert_eq!(functions, [expected, plain], "in the order of the file");
}

#[test]
fn what_is_no_text_is_taken_as_it_is_written() {
    let text = "\
functions:
  a:
    image: a
    environment:
      PORT: 8080
      DEBUG: true
      RATIO: 1.10
      MASK: 0x1F
      DAY: 2026-11-21
      OCTAL: 0755
      BIG: 123456789012345678901234567890
      NOTHING:
      QUOTED: \"8080\"
      8: eight
";
    let expected = map(&[
        ("PORT", "8080"),
        ("DEBUG", "true"),
        ("RATIO", "1.10"),
        ("MASK", "0x1F"),
        ("DAY", "2026-11-21"),
        ("OCTAL", "0755"),
        ("BIG", "123456789012345678901234567890"),
        ("NOTHING", ""),
        ("QUOTED", "8080"),
        ("8", "eight"),
    ]);
    assert_eq!(functions(text)[0].environment, expected);
}

#[test]
fn anchors_aliases_and_merged_maps_say_what_they_refer_to() {
    let text = "\
common: &common
  environment: &env {LEVEL: info, KEEP: yes}
  secrets: &secrets [api-key]
x-limits: {memory: 1Gi}
functions:
  a: &a
    <<: *common
    image: a
  b:
    <<: *a
    image: b
    secrets: *secrets
    environment: {<<: *env, LEVEL: debug}
";
    let [a, b] = &functions(text)[..] else { panic!("two functions") };
    assert_eq!((a.image.as_str(), &a.secrets[..]), ("a", &["api-key".to_owned()][..]));
    assert_eq!(a.environment, map(&[("LEVEL", "info"), ("KEEP", "yes")]));
    assert_eq!((b.image.as_str(), &b.secrets[..]), ("b", &["api-key".to_owned()][..]));
    assert_eq!(b.environment, map(&[("LEVEL", "debug"), ("KEEP", "yes")]));
}

#[test]
fn a_hundred_functions_may_share_an_anchor() {
    let many: String = (0..150).map(|n| format!("  f{n}:\n    <<: *c\n    image: i{n}\n")).collect();
    let functions = functions(&format!("x: &c\n  labels: {{a: b}}\nfunctions:\n{many}"));
    assert_eq!((functions.len(), &functions[149].labels), (150, &map(&[("a", "b")])));
}

#[test]
fn an_environment_file_outranks_the_stack_and_a_later_one_the_earlier() {
    let mut function =
        functions("functions:\n  a:\n    image: a\n    environment: {A: 1, B: 1, C: 1}\n").remove(0);
    function.add_environment(environment("environment:\n  B: 2\n  C: 2\n").unwrap());
    function.add_environment(environment("environment:\n  C: 3\n  D: $${X} ${X}\n").unwrap());
    let expected = map(&[("A", "1"), ("B", "2"), ("C", "3"), ("D", "$${X} ${X}")]);
    assert_eq!(function.environment, expected, "no variables are put into it");
    assert_eq!(environment("environment:\n").unwrap(), BTreeMap::new());
}

#[test]
fn nothing_of_an_environment_file_is_repeated() {
    for (text, place) in [
        ("API_KEY=TOPSEKRIT43\n", (1, 1)),
        ("TOPSEKRIT43: 1\n", (1, 1)),
        ("environment: [TOPSEKRIT43]\n", (1, 14)),
        ("environment:\n  A: {TOPSEKRIT43: 1}\n", (2, 6)),
        ("environment:\n  TOPSEKRIT43: 1\n  TOPSEKRIT43: 2\n", (3, 3)),
        ("environment:\n\tTOPSEKRIT43: 1\n", (2, 1)),
    ] {
        let invalid = environment(text).unwrap_err();
        assert!(!format!("{invalid:?}").contains("SEKRIT"), "{invalid:?}");
        assert_eq!(invalid.place, Some(place), "{text}");
    }
}

#[test]
fn no_value_of_a_variable_is_repeated() {
    for text in [
        "functions:\n  a:\n    image: x\n    limits: ${V}\n",
        "functions:\n  a:\n    image: x\n    secrets: a-${V}-b\n",
        "functions:\n  a: {image: x, ${V}: 1}\n",
        "functions:\n  a:\n    image: x\n    readonly_root_filesystem: ${V}\n",
        "version: ${V}\nfunctions:\n  a: {image: x}\n",
        "version: >\n  b\n  ${V}\nfunctions:\n  a: {image: x}\n",
        "provider:\n  name: |\n    ${V}\nfunctions:\n  a: {image: x}\n",
        "functions:\n  ${V}:\n    imag: x\n",
        "functions:\n  ${V}: {}\n",
        "functions:\n  ${V}: {image: x}\n  ${V}: {image: x}\n",
        "${V}: 1\nfunctions:\n  a: {image: x}\n",
        "${V}",
        "functions: \"${V}\n",
    ] {
        let invalid = Stack::parse(text, &|_| Some("TOPSEKRIT43".to_owned())).unwrap_err();
        assert!(!format!("{invalid:?}").contains("SEKRIT"), "{invalid:?}");
    }
    check(
        "functions:\n  a:\n    image: x:${TAG}\n    imag: x\n",
        expect![[r#"
        4:5: unknown key `imag`
        |     imag: x
        hint: did you mean `image`?"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    limits: ${TAG}\n",
        expect![[r#"
        4:13: this is wrong once the variables are put in
        | 
        hint: look at the values of the variables here: they are not repeated, as they may be secrets"#]],
    );
}

#[test]
fn what_is_deployed_is_what_faas_cli_would_send() {
    let sent = |text: &str| serde_json::to_string(&functions(text)[0].deployment()).unwrap();
    expect![[r#"{"service":"a","image":"a","labels":{},"annotations":{}}"#]].assert_eq(&sent(
        "functions:\n  a: {image: a, environment: {}, secrets: [], readonly_root_filesystem: no}\n",
    ));
    let text = "functions:\n  a:\n    image: a\n    fprocess: cat\n    namespace: shop\n    environment: {A: 1}\n    secrets: [s]\n    \
        labels: {l: 1}\n    limits: {memory: 1Gi}\n    readonly_root_filesystem: true\n";
    expect![[r#"{"service":"a","image":"a","namespace":"shop","envProcess":"cat","envVars":{"A":"1"},"secrets":["s"],"labels":{"l":"1"},"annotations":{},"limits":{"memory":"1Gi"},"readOnlyRootFilesystem":true}"#]].assert_eq(&sent(text));
    let wanted = functions(text)[0].deployment().wanted().unwrap();
    assert_eq!((wanted.function.to_string().as_str(), wanted.image.as_str()), ("a.shop", "a"));
    assert_eq!(
        (wanted.settings.env["fprocess"].as_str(), wanted.settings.limits.memory_bytes),
        ("cat", 1 << 30)
    );
}

#[test]
fn functions_are_chosen_by_name() {
    let text = "functions:\n  mail-worker: {image: a}\n  page: {image: b}\n  text-worker: {image: c}\n";
    let mut stack = parse(text).unwrap();
    stack.keep(|name| fits("*-worker", name)).unwrap();
    let names: Vec<_> = stack.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["mail-worker", "text-worker"]);
    assert_eq!(stack.keep(|name| fits("page", name)).unwrap_err(), ["mail-worker", "text-worker"]);
}

#[test]
fn a_tab_is_shown_with_its_line() {
    for text in ["functions:\n\ta:\n\t\timage: x\n", "functions:\n  a:\n \timage: x\n"] {
        let error = parse(text).unwrap_err();
        assert_eq!(
            error.message, "a tab is in the indentation, which YAML wants to be of spaces",
            "{text:?}"
        );
    }
    check(
        "functions:\n  a:\n\timage: x\n",
        expect![[r#"
            3:1: a tab is in the indentation, which YAML wants to be of spaces
            | 	image: x
            hint: write spaces in its place, two for each level"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n\thandler: y\n",
        expect![[r#"
        4:1: a tab is in the indentation, which YAML wants to be of spaces
        | 	handler: y
        hint: write spaces in its place, two for each level"#]],
    );
    let block = "functions:\n  a:\n    image: x\n    environment:\n      TEXT: |\n        \tindented\n";
    assert_eq!(functions(block)[0].environment["TEXT"], "\tindented\n", "a text may have them");
}

#[test]
fn a_variable_that_is_not_set_is_named_where_it_breaks_the_file() {
    for (image, expected) in [
        (
            "image: ${NOTSET}",
            expect![[r#"
            2:3: the function `a` has no `image`
            |   a:
            hint: `NOTSET` is not set: set it, or write a default as in `${NOTSET:-1.0}`"#]],
        ),
        (
            "image: shop/x:${NOTSET}",
            expect![[r#"
                3:18: this is wrong once the variables are put in
                | 
                hint: `NOTSET` is not set: set it, or write a default as in `${NOTSET:-1.0}`"#]],
        ),
        (
            "image: 'shop/x:${NOTSET}'",
            expect![[r#"
            2:3: the `image` of the function `a` is `shop/x:`, which ends too early
            |   a:
            hint: `NOTSET` is not set: set it, or write a default as in `${NOTSET:-1.0}`"#]],
        ),
        (
            "image: ${NOTSET:-x}:${NOTSET}",
            expect![[r#"
                3:13: this is wrong once the variables are put in
                | 
                hint: `NOTSET` is not set: set it, or write a default as in `${NOTSET:-1.0}`"#]],
        ),
    ] {
        check(&format!("functions:\n  a:\n    {image}\n"), expected);
    }
}

#[test]
fn what_is_wrong_with_a_value_is_told_with_its_place() {
    let text = "functions:\n  a:\n    image: x\n    labels:\n      com.openfaas.scale.min: lots\n    limits:\n      memory: all\n";
    let function = &functions(text)[0];
    assert_eq!(function.place_of("`limits.memory` is `all`"), (7, 15));
    assert_eq!(function.place_of("label `com.openfaas.scale.min` is `lots`"), (5, 31));
    assert_eq!(function.place_of("`secrets[0]`"), (2, 3));
}

#[test]
fn a_key_that_is_there_twice_is_named_with_its_line() {
    check(
        "functions:\n  a:\n    image: x\n    image: y\n",
        expect![[r#"
            4:5: `image` is there twice
            |     image: y
            hint: keep one of them"#]],
    );
    check(
        "functions:\n  a: {image: x}\n  b: {image: x}\n  a: {image: x}\n",
        expect![[r#"
            4:3: `a` is there twice
            |   a: {image: x}
            hint: keep one of them"#]],
    );
}

#[test]
fn a_key_that_nobody_knows_has_a_nearest_one() {
    check(
        "functions:\n  a:\n    imag: x\n",
        expect![[r#"
            3:5: unknown key `imag`
            |     imag: x
            hint: did you mean `image`?"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    limits: {mem: 1}\n",
        expect![[r#"
            4:14: unknown key `mem`
            |     limits: {mem: 1}
            hint: did you mean `memory`?"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    env: {A: 1}\n",
        expect![[r#"
        4:5: unknown key `env`
        |     env: {A: 1}
        hint: did you mean `environment`?"#]],
    );
    check(
        "functions:\na:\n  image: x\n",
        expect![[r#"
        2:1: unknown key `a`
        | a:
        hint: if it is a function, write it below `functions:`, two spaces further in"#]],
    );
    check(
        "functions:\n  a:\n  image: x\n",
        expect![[r#"
        3:10: here must be keys with values, as `KEY: VALUE`
        |   image: x
        hint: what belongs to a key stands below it, two spaces further in: `image: NAME:TAG` on a line for each, without a dash"#]],
    );
    check(
        "function:\n  a: {image: x}\n",
        expect![[r#"
            1:1: unknown key `function`
            | function:
            hint: did you mean `functions`?"#]],
    );
    check(
        "functions:\n  a: {image: x}\nimage: y\n",
        expect![[r#"
            3:1: `image` belongs to a function
            | image: y
            hint: write it below `functions:` and the name of the function"#]],
    );
}

#[test]
fn every_other_mistake_says_what_and_where() {
    check(
        "functions:\n  a: {lang: go}\n",
        expect![[r#"
            2:3: the function `a` has no `image`
            |   a: {lang: go}
            hint: add a line `image: NAME:TAG`: what `faas-cli build` makes has it too"#]],
    );
    check(
        "version: 2.0\nfunctions:\n  a: {image: x}\n",
        expect![[r#"
            1:10: there is no version `2.0` of stack files
            | version: 2.0
            hint: write `version: 1.0`"#]],
    );
    check(
        "provider: {name: faas}\nfunctions:\n  a: {image: x}\n",
        expect![[r#"
            1:18: there is no provider `faas`
            | provider: {name: faas}
            hint: write `name: openfaas`"#]],
    );
    check(
        "functions:\n  a:\n    image: ${TAG:-\n",
        expect![[r#"
            3:12: `${TAG:-`: its `}` is missing
            |     image: ${TAG:-
            hint: write `${NAME}` or `${NAME:-DEFAULT}`, and `$$` for a dollar sign"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    secrets: api-key\n",
        expect![[r#"
            4:14: here must be a list
            |     secrets: api-key
            hint: write `- VALUE` on a line for each below the key, or `[ONE, OTHER]` beside it"#]],
    );
    check(
        "functions:\n  - a\n",
        expect![[r#"
            2:3: here must be keys with values, as `KEY: VALUE`
            |   - a
            hint: what belongs to a key stands below it, two spaces further in: `image: NAME:TAG` on a line for each, without a dash"#]],
    );
    check(
        "functions:\n  a:\n    image: {x: y}\n",
        expect![[r#"
        3:12: here must be a text
        |     image: {x: y}"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    readonly_root_filesystem: maybe\n",
        expect![[r#"
        4:31: it must be true or false
        |     readonly_root_filesystem: maybe"#]],
    );
    check(
        "functions:\n  a:\n    image: x\n    environment:\n      A: *nope\n",
        expect![[r#"
        5:10: no `&` before this gives that name to anything
        |       A: *nope"#]],
    );
    check(
        "functions:\n  a: &a\n    environment:\n      <<: *a\n",
        expect![[r#"
        4:11: it refers to what it is a part of
        |       <<: *a"#]],
    );
    check(
        "functions:\n  a: {image: x}\n---\nfunctions:\n",
        expect![[r#"
        4:1: a second document begins here
        | functions:
        hint: a file has one: remove the line `---`"#]],
    );
    check(
        "functions:\n  a:\n    image: \"x\n",
        expect![[r#"
            4:1: invalid indentation in multiline quoted scalar
            | 
            hint: keys that belong together begin in the same column, and what belongs to a key two spaces further in, as `KEY: VALUE`"#]],
    );
    check(
        "functions:\n  a:\n   image: x\n  - b\n",
        expect![[r#"
            4:5: while parsing a block mapping, did not find expected key
            |   - b
            hint: keys that belong together begin in the same column, and what belongs to a key two spaces further in, as `KEY: VALUE`"#]],
    );
    check(
        "",
        expect![[r#"
        it has no function
        | 
        hint: write below `functions:` a name, and below that a line `image: NAME:TAG`"#]],
    );
    check(
        "functions:\n",
        expect![[r#"
        it has no function
        | 
        hint: write below `functions:` a name, and below that a line `image: NAME:TAG`"#]],
    );
    check(
        "just a text",
        expect![[r#"
            1:1: here must be keys with values, as `KEY: VALUE`
            | just a text
            hint: what belongs to a key stands below it, two spaces further in: `image: NAME:TAG` on a line for each, without a dash"#]],
    );
}

#[test]
fn aliases_of_aliases_come_to_an_end() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{},", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(',')));
    }
    let error = parse(&(text + "functions:\n  a: {image: x}\n")).unwrap_err();
    assert!(error.message.starts_with("it says too much"), "{error:?}");
    let deep = format!("functions: {}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    assert!(parse(&deep).is_err());
}

proptest! {
    #[test]
    fn what_is_written_as_json_is_read_again(
        names in prop::collection::btree_set("[a-z]{1,8}", 1..6),
        variables in prop::collection::btree_map("[A-Z_]{1,8}", r#"[^$\\\pC\"\u{2028}\u{2029}\u{85}]{0,20}"#, 0..5),
    ) {
        // JSON is YAML; what would be put in is kept out.
        let functions: BTreeMap<_, _> = names
            .iter()
            .map(|name| (name, serde_json::json!({ "image": format!("i/{name}:1"), "environment": variables })))
            .collect();
        let text = serde_json::json!({ "functions": functions }).to_string();
        prop_assume!(!text.contains('\\'));
        let stack = parse(&text).unwrap();
        for (function, name) in stack.functions.iter().zip(&names) {
            prop_assert_eq!((&function.name, &function.image), (name, &format!("i/{name}:1")));
            prop_assert_eq!(&function.environment, &variables);
        }
    }

    #[test]
    fn any_text_is_a_stack_or_an_error(text in "(functions:|  a:|    image: x|\n|\t| |[&*]a|[{}\\[\\]:,\"'|>#?-]){0,30}") {
        let _ = parse(&text);
    }
}
