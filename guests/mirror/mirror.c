// A small static program for images that have nothing else: it says what it is asked, over HTTP or once on its standard streams.
// Built by the tests of OpenFaaS' dialect with `cc -static -O2`; a process for each connection, so that slow calls hinder no others.
//
// Without arguments it serves on $PORT, else 8080:
//   /status/N  answers N              /redirect    leads elsewhere      /secret/NAME  the bytes of a secret
//   /echo      answers its body       /slow/MS     answers later        /events       five events, 200 ms apart
//   /log/TEXT  prints TEXT            /spin/MS     computes for so long
//   anything else: the request, as it came
// With one: `env` prints its environment, `cat` copies, `fail` copies and exits with 1, `slow MS` waits and copies.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 16384, BODY_BYTES_MAX = 4 << 20, REPLY_BYTES_MAX = BODY_BYTES_MAX + 2 * HEAD_BYTES_MAX };

extern char **environ;

static char head[HEAD_BYTES_MAX + 1], body[BODY_BYTES_MAX], reply[REPLY_BYTES_MAX];

static void pause_ms(long ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&span, NULL);
}

// Processor time, and not the time of a clock, is what is spent.
static void spin_ms(long ms) {
    struct timespec spent;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    while (spent.tv_sec * 1000 + spent.tv_nsec / 1000000 < ms);
}

static void send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = write(fd, bytes, length);
        if (sent <= 0) _exit(0);
        bytes += sent;
        length -= sent;
    }
}

static void answer(int fd, const char *status, const char *more, const char *bytes, size_t length) {
    char start[512];
    int size = snprintf(start, sizeof start, "HTTP/1.1 %s\r\ncontent-length: %zu\r\n%s\r\n", status, length, more);
    send_all(fd, start, size);
    if (strncmp(head, "HEAD ", 5) != 0) send_all(fd, bytes, length);
}

static void events(int fd) {
    static const char *begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    send_all(fd, begin, strlen(begin));
    for (int number = 0; number < 5; number++) {
        char event[64], chunk[96];
        int length = snprintf(event, sizeof event, "data: %d\n\n", number);
        send_all(fd, chunk, snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", length, event));
        pause_ms(200);
    }
    send_all(fd, "0\r\n\r\n", 5);
}

static void secret(int fd, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/var/openfaas/secrets/%s", name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        answer(fd, "404 Not Found", "", "there is no such secret\n", 24);
        return;
    }
    size_t length = fread(reply, 1, sizeof reply, file);
    fclose(file);
    answer(fd, "200 OK", "content-type: application/octet-stream\r\n", reply, length);
}

static void serve_one(int fd, size_t length) {
    char method[16] = "", target[4096] = "", text[256] = "";
    long number = 0;
    sscanf(head, "%15s %4095s", method, target);
    if (sscanf(target, "/status/%255[0-9]", text) == 1) {
        strcat(text, " As Asked");
        answer(fd, text, "", "as asked\n", 9);
    } else if (strcmp(target, "/redirect") == 0) {
        answer(fd, "302 Found", "location: /elsewhere\r\n", "elsewhere\n", 10);
    } else if (sscanf(target, "/secret/%200[A-Za-z0-9._-]", text) == 1) {
        secret(fd, text);
    } else if (strcmp(target, "/echo") == 0) {
        answer(fd, "200 OK", "content-type: application/octet-stream\r\n", body, length);
    } else if (sscanf(target, "/slow/%ld", &number) == 1) {
        pause_ms(number);
        answer(fd, "200 OK", "", "slowly\n", 7);
    } else if (sscanf(target, "/spin/%ld", &number) == 1) {
        spin_ms(number);
        answer(fd, "200 OK", "", "warm\n", 5);
    } else if (strcmp(target, "/events") == 0) {
        events(fd);
    } else if (sscanf(target, "/log/%255[^ ]", text) == 1) {
        printf("%s\n", text);
        answer(fd, "200 OK", "", "printed\n", 8);
    } else {
        int size = snprintf(reply, sizeof reply, "%s\r\n\r\n", head);
        memcpy(reply + size, body, length);
        answer(fd, "200 OK", "content-type: text/plain\r\n", reply, size + length);
    }
}

// One request after the other, until the client has no more.
static void serve(int fd) {
    size_t have = 0;
    for (;;) {
        char *end;
        head[have] = 0;
        while (!(end = strstr(head, "\r\n\r\n"))) {
            ssize_t got = read(fd, head + have, HEAD_BYTES_MAX - have);
            if (got <= 0) return;
            have += got;
            head[have] = 0;
        }
        *end = 0;
        size_t rest = have - (end + 4 - head), length = 0;
        for (char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
            if (strncasecmp(line + 2, "content-length:", 15) == 0) length = strtoul(line + 17, NULL, 10);
        if (length > BODY_BYTES_MAX) return;
        size_t taken = rest < length ? rest : length;
        memcpy(body, end + 4, taken);
        for (size_t read_so_far = taken; read_so_far < length;) {
            ssize_t got = read(fd, body + read_so_far, length - read_so_far);
            if (got <= 0) return;
            read_so_far += got;
        }
        serve_one(fd, length);
        memmove(head, end + 4 + taken, rest - taken);
        have = rest - taken;
    }
}

static int copy(void) {
    ssize_t got;
    while ((got = read(0, body, sizeof body)) > 0) send_all(1, body, got);
    return 0;
}

static int once(const char *verb, const char *number) {
    if (strcmp(verb, "env") == 0)
        for (char **variable = environ; *variable; variable++) puts(*variable);
    else if (strcmp(verb, "cat") == 0)
        return copy();
    else if (strcmp(verb, "fail") == 0)
        return copy(), fputs("it failed\n", stderr), 1;
    else if (strcmp(verb, "slow") == 0)
        return pause_ms(number ? atol(number) : 1000), copy();
    return 0;
}

int main(int count, char **words) {
    if (count > 1) return once(words[1], count > 2 ? words[2] : NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    // Children are nobody's to wait for.
    signal(SIGCHLD, SIG_IGN);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(getenv("PORT") ? atoi(getenv("PORT")) : 8080)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 128) < 0) return perror("listen"), 1;
    puts("the mirror is up");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (fork() == 0) {
            close(listener);
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}
