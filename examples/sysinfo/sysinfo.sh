#!/bin/sh
# Tells about the machine and the sandbox that it runs in: a script for the command line, that knows nothing of HTTP.
# Coracle runs it once a call, with the body of the request as its input and its output as the response.

value() {
    # The first line of a file of /proc that has this key.
    sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" "$2" | head -n 1
}

echo "telling about the system" >&2

echo "kernel:    $(uname -s) $(uname -r) $(uname -m)"
echo "processor: $(value 'model name' /proc/cpuinfo)"
echo "cores:     $(nproc)"
echo "memory:    $(value MemTotal /proc/meminfo), of which $(value MemAvailable /proc/meminfo) are free"
echo "load:      $(cut -d ' ' -f 1-3 /proc/loadavg)"
echo "up:        $(cut -d . -f 1 /proc/uptime) s"
echo "time:      $(date -u +%Y-%m-%dT%H:%M:%SZ)"
echo "user:      $(id -u)"
echo "called by: ${Http_Method:-nobody} ${Http_Path:-}"
