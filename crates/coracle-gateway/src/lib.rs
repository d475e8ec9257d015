//! HTTP in, HTTP out: function traffic and the admin API.
