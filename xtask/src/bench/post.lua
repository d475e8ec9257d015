-- Sends a body of 100 bytes with every call.
-- `load.rs` gives it to wrk.
wrk.method = "POST"
wrk.body = string.rep("x", 100)
