// A bare epoll loop that answers HTTP/1.1 requests on keep-alive connections and does nothing else.
//
//   serve PORT THREADS BODY                      answers everything with the content of the file BODY: the least that an
//                                                answer costs on this machine
//   serve PORT THREADS BODY TOKEN MILLISECONDS   is the gateway: answers POST /v2/authentication with TOKEN, GET /count
//                                                with the number of all other requests, and those with BODY, the UUID
//                                                that ends the path in place of each zero UUID in it, after so many
//                                                milliseconds
//
// Each thread accepts from a socket of its own, in a loop of its own.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUEST = 8192, MAX_ANSWER = 16384, MAX_FILES = 65536, EVENTS = 256, UUID = 36, MAX_UUIDS = 16 };

struct connection {
    size_t used;
    char data[MAX_REQUEST];
};

static const char NIL[] = "00000000-0000-0000-0000-000000000000";
static int port, delay;
static char *body, *token;
static struct connection *connections[MAX_FILES];
static atomic_ulong asked;

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static char *content(const char *path) {
    FILE *file = fopen(path, "r");
    check(file != NULL, path);
    char *text = calloc(1, MAX_ANSWER);
    check(text && fread(text, 1, MAX_ANSWER / 2, file) > 0, path);
    fclose(file);
    return text;
}

// The part that all answers share is written once.
struct answer {
    char text[MAX_ANSWER];
    size_t length;
    char *date, *uuids[MAX_UUIDS];
    time_t made;
};

static void prepare(struct answer *answer, const char *status, const char *content) {
    static const char day[] = "Thu, 01 Jan 1970 00:00:00 GMT";
    answer->length = snprintf(answer->text, MAX_ANSWER,
                              "HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: application/json\r\n"
                              "Cache-Control: max-age=3600\r\nContent-Length: %zu\r\n\r\n%s",
                              status, day, strlen(content), content);
    answer->date = strstr(answer->text, day);
    char *at = answer->text;
    for (int i = 0; i < MAX_UUIDS && (at = strstr(at, NIL)); at += UUID) answer->uuids[i++] = at;
    answer->made = 0;
}

static void send_answer(int fd, struct answer *answer, const char *uuid) {
    time_t now = time(NULL);
    if (answer->made != now) {
        char date[40];
        struct tm parts;
        memcpy(answer->date, date, strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts)));
        answer->made = now;
    }
    for (int i = 0; uuid && i < MAX_UUIDS && answer->uuids[i]; i++) memcpy(answer->uuids[i], uuid, UUID);
    // The write always fits into the buffer of a socket whose last answer has been read.
    if (write(fd, answer->text, answer->length) != (ssize_t)answer->length) shutdown(fd, SHUT_RDWR);
}

// Answers the request at `head`. The UUID is the end of the path, just before " HTTP/1.1".
static void respond(int fd, const char *head, struct answer *fixed, struct answer *tokens) {
    if (!token) {
        send_answer(fd, fixed, NULL);
    } else if (head[0] == 'P') {
        send_answer(fd, tokens, NULL);
    } else if (!strncmp(head, "GET /count ", 11)) {
        struct answer count = {0};
        char number[32];
        snprintf(number, sizeof number, "%lu", atomic_load(&asked));
        prepare(&count, "200 OK", number);
        send_answer(fd, &count, NULL);
    } else {
        const char *end = strstr(head, " HTTP/1.1\r\n");
        atomic_fetch_add(&asked, 1);
        if (delay) usleep(delay * 1000);
        send_answer(fd, fixed, end && end - head > UUID ? end - UUID : NULL);
    }
}

// Answers every whole request in the buffer, and returns whether the connection goes on.
static int serve(int fd, struct answer *fixed, struct answer *tokens) {
    struct connection *c = connections[fd];
    ssize_t got = read(fd, c->data + c->used, MAX_REQUEST - 1 - c->used);
    if (got <= 0) return 0;
    c->used += got;
    c->data[c->used] = 0;
    char *head = c->data, *end;
    while ((end = strstr(head, "\r\n\r\n"))) {
        end += 4;
        if (head[0] == 'P') {
            char *length = strcasestr(head, "\r\ncontent-length:");
            if (length && length < end) end += atoi(length + 17);
            if (end > c->data + c->used) break;
        }
        respond(fd, head, fixed, tokens);
        head = end;
    }
    c->used -= head - c->data;
    memmove(c->data, head, c->used);
    return c->used < MAX_REQUEST - 1;
}

static _Noreturn void *loop(void *unused) {
    (void)unused;
    static const int on = 1;
    struct answer *fixed = calloc(2, sizeof *fixed), *tokens = fixed + 1;
    prepare(fixed, "200 OK", body);
    if (token) prepare(tokens, "201 Created", token);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    check(!bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 4096), "bind");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    check(!epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event), "epoll");

    for (;;) {
        int count = epoll_wait(poll, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (!serve(fd, fixed, tokens)) {
                    free(connections[fd]);
                    close(fd);
                }
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                check(fd < MAX_FILES && (connections[fd] = malloc(sizeof(struct connection))), "too many connections");
                connections[fd]->used = 0;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6) {
        fprintf(stderr, "usage: serve PORT THREADS BODY [TOKEN MILLISECONDS]\n");
        return 64;
    }
    port = atoi(argv[1]);
    body = content(argv[3]);
    if (argc == 6) {
        token = content(argv[4]);
        delay = atoi(argv[5]);
    }
    pthread_t thread;
    for (int i = 1; i < atoi(argv[2]); i++) check(!pthread_create(&thread, NULL, loop, NULL), "thread");
    loop(NULL);
}
