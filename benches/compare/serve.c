// A bare epoll loop that answers HTTP/1.1 requests on keep-alive connections and does nothing else.
//
//   serve PORT THREADS BODY                      answers everything with the content of the file BODY: the least that an
//                                                answer costs on this machine
//   serve PORT THREADS BODY TOKEN MILLISECONDS [WRITES]
//                                                is the gateway: answers POST /v2/authentication with TOKEN, GET /count
//                                                with the number of all other requests, and those with BODY, the UUID
//                                                that ends the path in place of each zero UUID in it, after so many
//                                                milliseconds; and after WRITES milliseconds PATCH with 204, and any
//                                                other POST, such as a capture, with the UUID before the path's last
//                                                segment
//
// If BODY has a "revision", answers have there how many writes this UUID has had. UUIDs with the same last 20 bits share
// a revision. A write takes effect when its answer is sent; a lookup shows the state in which its request arrived.
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUEST = 8192, MAX_ANSWER = 1 << 18, SMALL = 1 << 14, MAX_FILES = 65536, EVENTS = 256, UUID = 36, MAX_UUIDS = 16 };
enum { REVISIONS = 1 << 20, DIGITS = 10 };
static const int64_t MILLISECOND = 1000000;

struct connection {
    size_t used;
    char data[MAX_REQUEST];
};

#define NIL "00000000-0000-0000-0000-000000000000"
static const char CAPTURED[] = "{\"uuid\":\"" NIL "\"}";
static int port;
static char *body, *token;
static struct connection *connections[MAX_FILES];
// Counts the connections that each file has been: a late answer must not go to the next one.
static unsigned generations[MAX_FILES];
static atomic_ulong asked;
static atomic_uint revisions[REVISIONS];

// Answers that are to be sent after a while, the first one first.
struct late {
    struct late *next;
    int64_t due;
    int fd;
    unsigned generation, revision;
    char uuid[UUID + 1];
};

enum { LOOKUP, CHANGE, CAPTURE, KINDS };
struct queue {
    struct late *first, **end;
};
static int64_t delays[KINDS];

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 * MILLISECOND + time.tv_nsec;
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
    char *date, *revision, *uuids[MAX_UUIDS];
    time_t made;
};

// The answers and the queues of one thread.
struct loop {
    struct answer tokens, answers[KINDS];
    struct queue queues[KINDS];
};

// `content` is NULL in an answer that has none.
static void prepare(struct answer *answer, const char *status, const char *content) {
    static const char day[] = "Thu, 01 Jan 1970 00:00:00 GMT";
    char more[128] = "";
    if (content) {
        snprintf(more, sizeof more, "Content-Type: application/json\r\nCache-Control: max-age=3600\r\n"
                 "Content-Length: %zu\r\n", strlen(content));
    }
    answer->length = snprintf(answer->text, MAX_ANSWER, "HTTP/1.1 %s\r\nDate: %s\r\n%s\r\n%s", status, day, more,
                              content ? content : "");
    answer->date = strstr(answer->text, day);
    char *revision = strstr(answer->text, "\"revision\":");
    if (revision) answer->revision = revision + strlen("\"revision\":");
    char *at = answer->text;
    for (int i = 0; i < MAX_UUIDS && (at = strstr(at, NIL)); at += UUID) answer->uuids[i++] = at;
    answer->made = 0;
}

static void send_answer(int fd, struct answer *answer, const char *uuid, unsigned revision) {
    time_t now = time(NULL);
    if (answer->made != now) {
        char date[40];
        struct tm parts;
        memcpy(answer->date, date, strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts)));
        answer->made = now;
    }
    for (int i = 0; uuid && i < MAX_UUIDS && answer->uuids[i]; i++) memcpy(answer->uuids[i], uuid, UUID);
    if (uuid && answer->revision) {
        char number[DIGITS + 1];
        snprintf(number, sizeof number, "%*u", DIGITS, revision);
        memcpy(answer->revision, number, DIGITS);
    }
    // The answer always fits into the buffer of a socket whose last answer has been read.
    if (write(fd, answer->text, answer->length) != (ssize_t)answer->length) shutdown(fd, SHUT_RDWR);
}

static atomic_uint *revision_of(const char *uuid) {
    return &revisions[strtoul(uuid + UUID - 8, NULL, 16) % REVISIONS];
}

static void send_late(struct loop *loop, int kind, const struct late *late) {
    if (kind != LOOKUP) atomic_fetch_add(revision_of(late->uuid), 1);
    if (late->generation == generations[late->fd] && connections[late->fd])
        send_answer(late->fd, &loop->answers[kind], late->uuid, late->revision);
}

// Sends what is due, and returns when the next answer is.
static int64_t send_due(struct loop *loop) {
    int64_t next = INT64_MAX;
    for (int kind = 0; kind < KINDS; kind++) {
        struct queue *queue = &loop->queues[kind];
        for (struct late *late; (late = queue->first) && late->due <= now(); free(late)) {
            send_late(loop, kind, late);
            if (!(queue->first = late->next)) queue->end = &queue->first;
        }
        if (queue->first && queue->first->due < next) next = queue->first->due;
    }
    return next;
}

// Answers a call of the gateway, at once or later. The UUID is the end of the path, just before " HTTP/1.1", or in a POST
// just before the last segment.
static void call(struct loop *loop, int fd, const char *head) {
    int kind = head[0] != 'P' ? LOOKUP : head[1] == 'A' ? CHANGE : CAPTURE;
    const char *end = strstr(head, " HTTP/1.1\r\n");
    while (kind == CAPTURE && end && end > head && *end != '/') end--;
    if (!end || end - head <= UUID) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
    struct late late = {.due = now() + delays[kind], .fd = fd, .generation = generations[fd]};
    memcpy(late.uuid, end - UUID, UUID);
    late.revision = atomic_load(revision_of(late.uuid));
    if (!delays[kind]) {
        send_late(loop, kind, &late);
        return;
    }
    struct late *kept = malloc(sizeof late);
    check(kept != NULL, "memory");
    *kept = late;
    *loop->queues[kind].end = kept;
    loop->queues[kind].end = &kept->next;
}

// Answers the request at `head`.
static void respond(struct loop *loop, int fd, const char *head) {
    if (!token) {
        send_answer(fd, &loop->answers[LOOKUP], NULL, 0);
    } else if (!strncmp(head, "POST /v2/authentication ", 24)) {
        send_answer(fd, &loop->tokens, NULL, 0);
    } else if (!strncmp(head, "GET /count ", 11)) {
        struct answer *count = calloc(1, sizeof *count);
        char number[32];
        check(count != NULL, "memory");
        snprintf(number, sizeof number, "%lu", atomic_load(&asked));
        prepare(count, "200 OK", number);
        send_answer(fd, count, NULL, 0);
        free(count);
    } else {
        atomic_fetch_add(&asked, 1);
        call(loop, fd, head);
    }
}

// Answers every whole request in the buffer, and returns whether the connection goes on.
static int serve(struct loop *loop, int fd) {
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
        respond(loop, fd, head);
        head = end;
    }
    c->used -= head - c->data;
    memmove(c->data, head, c->used);
    return c->used < MAX_REQUEST - 1;
}

static _Noreturn void *run(void *unused) {
    (void)unused;
    static const int on = 1, buffer = MAX_ANSWER;
    struct loop *loop = calloc(1, sizeof *loop);
    check(loop != NULL, "memory");
    for (int kind = 0; kind < KINDS; kind++) loop->queues[kind].end = &loop->queues[kind].first;
    if (token) prepare(&loop->tokens, "201 Created", token);
    prepare(&loop->answers[LOOKUP], "200 OK", body);
    prepare(&loop->answers[CHANGE], "204 No Content", NULL);
    prepare(&loop->answers[CAPTURE], "200 OK", CAPTURED);
    prctl(PR_SET_TIMERSLACK, 1);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    check(!bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 4096), "bind");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    check(!epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event), "epoll");

    for (;;) {
        int64_t next = send_due(loop), left = next == INT64_MAX ? 0 : next - now();
        struct timespec wait = {left > 0 ? left / (1000 * MILLISECOND) : 0, left > 0 ? left % (1000 * MILLISECOND) : 0};
        int count = epoll_pwait2(poll, ready, EVENTS, next == INT64_MAX ? NULL : &wait, NULL);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (!serve(loop, fd)) {
                    free(connections[fd]);
                    connections[fd] = NULL;
                    close(fd);
                }
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                check(fd < MAX_FILES && (connections[fd] = malloc(sizeof(struct connection))), "too many connections");
                connections[fd]->used = 0;
                generations[fd]++;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                // The kernel gives a new socket room for small answers, and more only as they are read.
                if (loop->answers[LOOKUP].length > SMALL) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6 && argc != 7) {
        fprintf(stderr, "usage: serve PORT THREADS BODY [TOKEN MILLISECONDS [WRITES]]\n");
        return 64;
    }
    port = atoi(argv[1]);
    body = content(argv[3]);
    if (argc > 4) {
        token = content(argv[4]);
        delays[LOOKUP] = atoi(argv[5]) * MILLISECOND;
        delays[CHANGE] = delays[CAPTURE] = argc > 6 ? atoi(argv[6]) * MILLISECOND : delays[LOOKUP];
    }
    pthread_t thread;
    for (int i = 1; i < atoi(argv[2]); i++) check(!pthread_create(&thread, NULL, run, NULL), "thread");
    run(NULL);
}
