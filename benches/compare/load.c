// A load generator for keep-alive connections to a loopback port, one request at a time on each.
//
//   load -p PORT -u PATH [-a TOKEN] [-w | -k] [-g] [-c CONNECTIONS] [-s SESSIONS [-f FIRST] [-e]]
//        (-n REQUESTS | -d SECONDS | -r RATE -d SECONDS)
//
// Closed loop, unless a rate is given: every connection sends as soon as its answer has come. With -n the program
// counts requests exactly; with as many connections as requests, all are sent at once.
// Open loop, with -r: request k is due at k/RATE, whatever became of the requests before it. All requests are sent, and
// each latency counts from the time the request was due. So a server that stalls is charged with the wait of every
// request due in that time ("coordinated omission").
//
// With -s the path ends in the UUID of one of so many sessions, drawn at random, or with -e each in turn. With -f they
// are the sessions from that number on. With -w the requests are writes: PATCH with a body. With -k they are captures: POST
// to the path, the UUID and "/capture", each with a Sezzle-Request-Id of its own and a JSON body of 300 bytes. With -a they
// carry a bearer token.
// With -g the program first sends a request over each connection, prints "ready", and waits for a line on its input.
// Prints one JSON object; latencies are in microseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_READ = 65536, EVENTS = 256, UUID = 37, CAPTURE = 300 };
static const int64_t SECOND = 1000000000;

struct connection {
    int fd;
    int64_t due;      // When its request was due, or sent in a closed loop.
    int64_t missing;  // Bytes of the answer that are still to come; -1 before its head was read.
    size_t used;      // Bytes of the head that were read.
    char head[8192];
};

static int port;
static const char *path;
static const char *method = "GET", *suffix = "", *body = "\r\n", *token;
static char capture[512];
static uint64_t sessions, first_session, each, sent, failed, answered, room;
static float *latencies;
static int poller;
static uint64_t count = 1;
static struct connection **idle;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

// splitmix64: turns neighbouring numbers into unrelated ones.
static uint64_t mixed(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

// Writes the UUID that belongs to a number.
static void write_uuid(char uuid[static UUID], uint64_t number) {
    uint64_t high = mixed(2 * number), low = mixed(2 * number + 1);
    snprintf(uuid, UUID, "%08x-%04x-4%03x-8%03x-%012" PRIx64, (unsigned)(high >> 32), (unsigned)(high >> 16) & 0xffff,
             (unsigned)high & 0xfff, (unsigned)(low >> 52), low & 0xffffffffffff);
}

static void send_request(struct connection *c, int64_t due) {
    char text[1024], uuid[UUID] = "", key[UUID + 32] = "", authorization[160] = "";
    uint64_t random = mixed(sent ^ ((uint64_t)getpid() << 40));
    if (sessions) write_uuid(uuid, first_session + (each ? sent : random) % sessions);
    if (body == capture) {
        write_uuid(key + sprintf(key, "Sezzle-Request-Id: "), random);
        strcat(key, "\r\n");
    }
    if (token) snprintf(authorization, sizeof authorization, "Authorization: Bearer %s\r\n", token);
    int length = snprintf(text, sizeof text, "%s %s%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s%s", method, path, uuid,
                          suffix, port, authorization, key, body);
    c->due = due;
    c->missing = -1;
    c->used = 0;
    sent++;
    check(write(c->fd, text, length) == length, "write");
}

static void answer(struct connection *c) {
    if (answered == room) check((latencies = realloc(latencies, (room = 2 * room + 65536) * sizeof(float))) != NULL, "memory");
    latencies[answered++] = (now() - c->due) / 1e3;
}

// Reads all bytes that have come, and returns whether the answer is complete.
static int receive(struct connection *c) {
    static char rest[MAX_READ];
    char *at = c->missing < 0 ? c->head + c->used : rest;
    ssize_t got = read(c->fd, at, c->missing < 0 ? sizeof c->head - 1 - c->used : sizeof rest);
    check(got > 0, "the server closed a connection");
    if (c->missing >= 0) {
        c->missing -= got;
    } else {
        c->used += got;
        c->head[c->used] = 0;
        char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\ncontent-length:");
        if (!end) return 0;
        int is_empty = method[0] == 'P' && !strncmp(c->head, "HTTP/1.1 204 ", 13);
        check(is_empty || (length && length < end), "an answer without a length");
        c->missing = is_empty ? 0 : atoll(length + 17) - (c->head + c->used - end - 4);
        failed += !is_empty && strncmp(c->head, "HTTP/1.1 200 ", 13);
    }
    return c->missing == 0;
}

// Writes the lines and the body that all captures share.
static void make_capture(void) {
    static const char begin[] = "{\"capture_amount\":{\"amount_in_cents\":5000,\"currency\":\"USD\"},\"reference_id\":\"";
    int head = sprintf(capture, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", CAPTURE, begin);
    int rest = CAPTURE - (int)strlen(begin) - 2;
    memset(capture + head, 'x', rest);
    strcpy(capture + head + rest, "\"}");
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void connect_all(void) {
    int on = 1;
    struct connection *connections = calloc(count, sizeof *connections);
    idle = calloc(count, sizeof *idle);
    poller = epoll_create1(0);
    check(connections && idle && poller >= 0, "memory");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (uint64_t i = 0; i < count; i++) {
        struct connection *c = idle[i] = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        check(!connect(c->fd, (struct sockaddr *)&address, sizeof address), "connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        check(!epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event), "epoll");
    }
}

// Sends so many requests, or until `end`, at a rate if that is not 0. Returns when all answers have come.
static void run(uint64_t requests, double rate, int64_t end) {
    // Idle connections form a ring: the longest idle one is next.
    uint64_t first = 0, idles = count;
    int64_t began = now();
    for (;;) {
        int64_t time = now(), due = time;
        int more = 1;
        while (idles) {
            more = requests ? sent < requests : time < end;
            if (rate > 0) due = began + (int64_t)(sent / rate * SECOND);
            if (!more || due > time) break;
            send_request(idle[first], due);
            first = (first + 1) % count;
            idles--;
        }
        if (!more && idles == count) break;
        struct epoll_event ready[EVENTS];
        struct timespec wait = {due > time ? (due - time) / SECOND : 0, due > time ? (due - time) % SECOND : 0};
        int number = epoll_pwait2(poller, ready, EVENTS, more && idles ? &wait : NULL, NULL);
        for (int i = 0; i < number; i++) {
            struct connection *c = ready[i].data.ptr;
            if (receive(c)) {
                answer(c);
                idle[(first + idles++) % count] = c;
            }
        }
    }
}

int main(int argc, char **argv) {
    uint64_t requests = 0;
    double rate = 0, seconds = 0;
    int waits = 0;
    for (int option; (option = getopt(argc, argv, "p:u:a:wkgc:s:f:en:d:r:")) != -1;) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'a': token = optarg; break;
        case 'w':
            method = "PATCH";
            body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            break;
        case 'k':
            method = "POST";
            suffix = "/capture";
            make_capture();
            body = capture;
            break;
        case 'g': waits = 1; break;
        case 'c': count = atoi(optarg); break;
        case 's': sessions = atoll(optarg); break;
        case 'f': first_session = atoll(optarg); break;
        case 'e': each = 1; break;
        case 'n': requests = atoll(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        default: return 64;
        }
    }
    if (!port || !path || !count || (!requests && seconds <= 0)) return 64;
    prctl(PR_SET_TIMERSLACK, 1);
    if (rate > 0) requests = rate * seconds;

    connect_all();
    if (waits) {
        run(count, 0, INT64_MAX);
        printf("ready\n");
        fflush(stdout);
        check(getchar() != EOF, "nobody said when to begin");
        sent = answered = 0;
    }
    int64_t began = now();
    run(requests, rate, seconds > 0 && rate <= 0 ? began + (int64_t)(seconds * SECOND) : INT64_MAX);
    double took = (now() - began) / 1e9;
    qsort(latencies, answered, sizeof *latencies, by_size);
    printf("{\"answers\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, "
           "\"p99.9\": %.1f, \"max\": %.1f}\n",
           answered, failed, took, latencies[answered / 2], latencies[(uint64_t)(answered * 0.99)],
           latencies[(uint64_t)(answered * 0.999)], latencies[answered - 1]);
    return failed != 0;
}
