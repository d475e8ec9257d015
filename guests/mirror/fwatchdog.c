// A watchdog as images of OpenFaaS bring one: it listens, reads `fprocess` itself, and runs that for each call.
// Built by the tests of OpenFaaS' dialect with `cc -static -O2`, beside the mirror that it runs.
//
// It listens on $port, else 8080; a call's body is the standard input of the process, its head is in the environment, and what
// the process prints is the answer, or the reason of a 500. `/_/health` is 200 as long as the lock file is there, which goes
// when it is told to end: it then waits for $healthcheck_interval seconds, so that nobody sends it more.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 16384, BODY_BYTES_MAX = 1 << 20, WORDS_MAX = 16 };

static const char *lock = "/tmp/.lock";
static char head[HEAD_BYTES_MAX + 1], body[BODY_BYTES_MAX], printed[BODY_BYTES_MAX];
static volatile sig_atomic_t told_to_end;

static void on_term(int signal) { (void)signal, told_to_end = 1; }

static void answer(int fd, const char *status, const char *bytes, size_t length) {
    dprintf(fd, "HTTP/1.1 %s\r\ncontent-length: %zu\r\nconnection: close\r\nx-duration-seconds: 0.001\r\n\r\n", status, length);
    while (length > 0) {
        ssize_t sent = write(fd, bytes, length);
        if (sent <= 0) return;
        bytes += sent, length -= sent;
    }
}

// What the process reads of the head: `Http_Method`, `Http_Path`, and a variable for each header.
static void tell(const char *method, const char *target) {
    setenv("Http_Method", method, 1);
    setenv("Http_Path", target, 1);
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        char name[256] = "Http_", value[1024] = "";
        if (sscanf(line + 2, "%249[^:\r]: %1023[^\r]", name + 5, value) < 1) continue;
        for (char *c = name; *c; c++)
            if (*c == '-') *c = '_';
        setenv(name, value, 1);
    }
}

static void run(int fd, size_t length) {
    int in[2], out[2];
    if (pipe(in) < 0 || pipe(out) < 0) return answer(fd, "500 Internal Server Error", "no pipe\n", 8);
    puts("Forking fprocess.");
    pid_t child = fork();
    if (child == 0) {
        dup2(in[0], 0), dup2(out[1], 1);
        close(in[1]), close(out[0]);
        char *words[WORDS_MAX + 1] = {0}, *command = strdup(getenv("fprocess"));
        int count = 0;
        for (char *word = strtok(command, " "); word && count < WORDS_MAX; word = strtok(NULL, " ")) words[count++] = word;
        execvp(words[0], words);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    // Small enough for the pipe, so that nobody waits for the other.
    if (write(in[1], body, length) < 0) perror("write");
    close(in[1]);
    size_t have = 0;
    for (ssize_t got; have < sizeof printed && (got = read(out[0], printed + have, sizeof printed - have)) > 0;) have += got;
    close(out[0]);
    int status;
    waitpid(child, &status, 0);
    printf("Wrote %zu Bytes\n", have);
    answer(fd, status == 0 ? "200 OK" : "500 Internal Server Error", printed, have);
}

static void serve(int fd) {
    size_t have = 0, length = 0;
    char *end = NULL, method[16] = "", target[4096] = "";
    while (!end) {
        ssize_t got = read(fd, head + have, HEAD_BYTES_MAX - have);
        if (got <= 0) return;
        head[have += got] = 0;
        end = strstr(head, "\r\n\r\n");
    }
    size_t taken = have - (end + 4 - head);
    memcpy(body, end + 4, taken);
    *end = 0;
    for (char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, "content-length:", 15) == 0) length = strtoul(line + 17, NULL, 10);
    if (length > 32768) return answer(fd, "413 Payload Too Large", "", 0);
    for (ssize_t got; taken < length && (got = read(fd, body + taken, length - taken)) > 0;) taken += got;
    sscanf(head, "%15s %4095s", method, target);
    struct stat there;
    if (strcmp(target, "/_/health") == 0)
        return stat(lock, &there) == 0 ? answer(fd, "200 OK", "OK", 2) : answer(fd, "503 Service Unavailable", "", 0);
    tell(method, target);
    run(fd, taken);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!getenv("fprocess")) return fputs("fprocess is not set\n", stderr), 1;
    signal(SIGPIPE, SIG_IGN);
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(getenv("port") ? atoi(getenv("port")) : 8080)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 128) < 0) return perror("listen"), 1;
    FILE *made = fopen(lock, "w");
    if (!made) return perror(lock), 1;
    fclose(made);
    printf("Listening on port: %d\n", ntohs(address.sin_port));
    while (!told_to_end) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_IGN);
            close(listener);
            serve(fd);
            _exit(0);
        }
        close(fd);
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    unlink(lock);
    puts("SIGTERM received");
    sleep(getenv("healthcheck_interval") ? atoi(getenv("healthcheck_interval")) : 0);
    return 0;
}
