// A small static web server for images that have nothing else: HTTP/1.1 with keep-alive, one process, no threads.
// `GET /` answers `hello`, `GET /env/NAME` a variable, anything else 404.
// `serve cat` copies its input and ends. Built by the tests and the bench with `cc -static -O2`.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 512, HEAD_BYTES_MAX = 8192 };

struct client {
    char head[HEAD_BYTES_MAX + 1];
    size_t length;
};

static struct pollfd fds[CLIENTS_MAX + 1];
static struct client clients[CLIENTS_MAX + 1];
static int count = 1;

static void leave(int at) {
    close(fds[at].fd);
    count--;
    fds[at] = fds[count];
    clients[at] = clients[count];
}

static int answer(int fd, const char *head) {
    char reply[2048];
    const char *body = "hello\n", *status = "200 OK";
    char name[128] = "";
    if (sscanf(head, "%*s /env/%127[A-Za-z0-9_]", name) == 1) {
        body = getenv(name) ? getenv(name) : "";
    } else if (strncmp(strchr(head, ' ') + 1, "/ ", 2) != 0) {
        status = "404 Not Found";
        body = "there is no such page\n";
    }
    int length = snprintf(reply, sizeof reply, "HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n%s",
                          status, strlen(body), body);
    return length < (int)sizeof reply && write(fd, reply, length) == length;
}

// Answers every head that is there; whether to go on with the client.
static int serve(int at) {
    struct client *client = &clients[at];
    ssize_t got = read(fds[at].fd, client->head + client->length, HEAD_BYTES_MAX - client->length);
    if (got <= 0) return got < 0 && errno == EINTR;
    client->length += got;
    client->head[client->length] = 0;
    for (char *end; (end = strstr(client->head, "\r\n\r\n"));) {
        *end = 0;
        if (!strchr(client->head, ' ') || !answer(fds[at].fd, client->head)) return 0;
        client->length -= end + 4 - client->head;
        memmove(client->head, end + 4, client->length + 1);
    }
    return client->length < HEAD_BYTES_MAX;
}

static void stop(int signal) {
    (void)signal;
    _exit(0);
}

// What is said on standard input, on standard output.
static int cat(void) {
    static char piece[65536];
    ssize_t got, sent;
    while ((got = read(0, piece, sizeof piece)) > 0)
        for (ssize_t at = 0; at < got; at += sent)
            if ((sent = write(1, piece + at, got - at)) < 0) return 1;
    return got < 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "cat")) return cat();
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    const char *port = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("listen");
        return 1;
    }
    fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (;;) {
        if (poll(fds, count, -1) < 0 && errno != EINTR) return 1;
        for (int at = count - 1; at > 0; at--)
            if (fds[at].revents && !serve(at)) leave(at);
        if (fds[0].revents && count <= CLIENTS_MAX) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            fds[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            clients[count++].length = 0;
        }
    }
}
