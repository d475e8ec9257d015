//! The routes of all functions as a tree of path segments, so that finding one never scans the functions.
//! Kept by `state.rs`; asked on the call path and, for clashes, by `deploy.rs`.

use std::collections::HashMap;

use coracle_model::{FunctionRef, Route};

/// All routes of the server.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    root: Node,
}

/// A route and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) route: Route,
    pub(crate) function: FunctionRef,
}

#[derive(Debug, Default)]
struct Node {
    exact: HashMap<Box<str>, Node>,
    param: Option<Box<Node>>,
    /// The route that ends here.
    end: Option<Target>,
    /// The route that ends here with `/*`.
    open: Option<Target>,
}

impl Routes {
    /// The route that fits a path best.
    pub(crate) fn find(&self, path: &str) -> Option<&Target> {
        self.root.find(Some(path.strip_prefix('/')?))
    }

    /// The route that stands where this one would: the one it clashes with.
    pub(crate) fn holder(&self, route: &Route) -> Option<&Target> {
        let shape = Shape::of(route);
        let mut node = &self.root;
        for segment in shape.segments() {
            node = match segment {
                Segment::Param => node.param.as_deref()?,
                Segment::Exact(text) => node.exact.get(text)?,
            };
        }
        if shape.open { node.open.as_ref() } else { node.end.as_ref() }
    }

    /// Puts a route in its place.
    pub(crate) fn insert(&mut self, function: &FunctionRef, route: &Route) {
        let shape = Shape::of(route);
        let mut node = &mut self.root;
        for segment in shape.segments() {
            node = match segment {
                Segment::Param => node.param.get_or_insert_default(),
                Segment::Exact(text) => node.exact.entry(text.into()).or_default(),
            };
        }
        let place = if shape.open { &mut node.open } else { &mut node.end };
        *place = Some(Target { route: route.clone(), function: function.clone() });
    }

    /// Takes a route away, if it is still this function's: another one may have taken it over in the same batch.
    pub(crate) fn remove(&mut self, function: &FunctionRef, route: &Route) {
        let shape = Shape::of(route);
        let segments: Vec<Segment<'_>> = shape.segments().collect();
        self.root.remove(&segments, shape.open, function);
    }
}

impl Node {
    /// Exact before parameter before rest, at every segment: the order of [`coracle_model::RouteMatch::rank`].
    ///
    /// It is as deep as the tree at most, whatever the path.
    fn find(&self, rest: Option<&str>) -> Option<&Target> {
        let Some(rest) = rest else { return self.end.as_ref().or(self.open.as_ref()) };
        let (part, rest) = match rest.split_once('/') {
            Some((part, rest)) => (part, Some(rest)),
            None => (rest, None),
        };
        let param = self.param.as_deref().filter(|_| !part.is_empty());
        (self.exact.get(part).and_then(|node| node.find(rest)))
            .or_else(|| param?.find(rest))
            .or(self.open.as_ref())
    }

    fn remove(&mut self, segments: &[Segment<'_>], open: bool, function: &FunctionRef) {
        match segments {
            [] => {
                let place = if open { &mut self.open } else { &mut self.end };
                place.take_if(|target| target.function == *function);
            }
            [Segment::Param, rest @ ..] => {
                if let Some(node) = &mut self.param {
                    node.remove(rest, open, function);
                }
                self.param.take_if(|node| node.is_empty());
            }
            [Segment::Exact(text), rest @ ..] => {
                if let Some(node) = self.exact.get_mut(*text) {
                    node.remove(rest, open, function);
                    if node.is_empty() {
                        self.exact.remove(*text);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.param.is_none() && self.end.is_none() && self.open.is_none()
    }
}

/// What of a route tells it from others: its segments without the names of parameters.
struct Shape<'a> {
    path: Option<&'a str>,
    open: bool,
}

enum Segment<'a> {
    Exact(&'a str),
    Param,
}

impl<'a> Shape<'a> {
    fn of(route: &'a Route) -> Self {
        let path = route.as_str().strip_prefix('/').expect("a route begins with `/`");
        match path.strip_suffix('*') {
            Some("") => Self { path: None, open: true },
            Some(prefix) => Self { path: prefix.strip_suffix('/'), open: true },
            None => Self { path: Some(path), open: false },
        }
    }

    fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let path = self.path;
        path.into_iter()
            .flat_map(|path| path.split('/'))
            .map(|part| if part.starts_with(':') { Segment::Param } else { Segment::Exact(part) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn function(index: usize) -> FunctionRef {
        FunctionRef::parse(&format!("f{index}")).unwrap()
    }

    prop_compose! {
        fn any_route()(segments in prop::collection::vec("a|b|:x|:y", 0..4), end in "|/|/\\*") -> Route {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let text = format!("{path}{end}");
            if text.is_empty() { "/" } else { &text }.parse().unwrap()
        }
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_of_all_routes_would(
            routes in prop::collection::vec(any_route(), 0..12), path in "(/(a|b|c|)){1,4}"
        ) {
            let mut tree = Routes::default();
            let mut all: Vec<Target> = Vec::new();
            for (index, route) in routes.iter().enumerate() {
                let clash = all.iter().find(|target| target.route.clashes_with(route));
                prop_assert_eq!(tree.holder(route), clash);
                if clash.is_none() {
                    tree.insert(&function(index), route);
                    all.push(Target { route: route.clone(), function: function(index) });
                }
            }
            let best = all.iter().filter_map(|t| Some((t.route.matches(&path)?.rank, t))).max_by_key(|(rank, _)| rank.clone());
            prop_assert_eq!(tree.find(&path), best.map(|(_, target)| target));
            for target in &all {
                tree.remove(&target.function, &target.route);
            }
            prop_assert!(tree.root.is_empty());
        }
    }

    #[test]
    fn a_route_that_another_function_took_over_stays() {
        let (mut tree, route) = (Routes::default(), "/a/*".parse().unwrap());
        tree.insert(&function(1), &route);
        tree.insert(&function(2), &route);
        tree.remove(&function(1), &route);
        assert_eq!(tree.find("/a/b").map(|target| &target.function), Some(&function(2)));
    }

    #[test]
    fn ten_thousand_functions_lie_apart() {
        let mut tree = Routes::default();
        for index in 0..10_000 {
            tree.insert(&function(index), &format!("/f{index}/*").parse().unwrap());
        }
        assert_eq!(tree.root.exact.len(), 10_000);
        assert_eq!(tree.root.exact["f77"].exact.len(), 0);
        assert_eq!(tree.find("/f77/x").map(|target| &target.function), Some(&function(77)));
    }
}
