// Writes sessions through one pod of a fleet, looks them up through others, and counts lookups that show an old state.
//
//   history SESSIONS LOOKUPS PORT PORT PORT...
//
// Each session has a thread with a connection to each pod. A round of it, in this order:
//
// 1. A pause, until all pods have heard of the last write's end and may store the session again.
// 2. A lookup through the session's reader, which so has the state before the write in its memory.
// 3. A write through another pod. In the middle of the write a lookup through the reader or a third pod.
// 4. As soon as the write is answered, a lookup through the reader.
//
// Ends after so many lookups of sessions that were written before, and prints one JSON object. The gateway is serve.c,
// whose answers say how many writes the session has had. A lookup that says less than were answered before the lookup
// began is stale.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { MAX_PODS = 16, MAX_ANSWER = 16384, MAX_REQUEST = 512 };
// In microseconds: longer than a poll, which takes 100 ms, and shorter than a write.
enum { PAUSE = 110000, MORE_PAUSE = 50000, MOST_OF_A_WRITE = 90000 };

struct answer {
    char text[MAX_ANSWER];
    size_t used;
};

static int pods, ports[MAX_PODS];
static long lookups;
static atomic_long writes, checked, primed, stale, failed, hits, hits_during_writes, shared;

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int reach(int port) {
    static const struct timeval patience = {.tv_sec = 30};
    static const int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(!connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void ask(int fd, const char *method, const char *what, int session, const char *rest) {
    char text[MAX_REQUEST];
    int length = snprintf(text, sizeof text, "%s /v2/%s/00000000-0000-4000-8000-%012x HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s",
                          method, what, session, *rest ? "Content-Type: application/json\r\nContent-Length: 2\r\n" : "", rest);
    check(write(fd, text, length) == length, "write");
}

// Receives a whole answer, and returns its status.
static int receive(int fd, struct answer *answer) {
    answer->used = 0;
    for (;;) {
        ssize_t got = read(fd, answer->text + answer->used, MAX_ANSWER - 1 - answer->used);
        check(got > 0, "no answer");
        answer->used += got;
        answer->text[answer->used] = 0;
        char *end = strstr(answer->text, "\r\n\r\n");
        if (!end) continue;
        char *length = strcasestr(answer->text, "\r\ncontent-length:");
        size_t whole = end + 4 - answer->text + (length && length < end ? atoll(length + 17) : 0);
        if (answer->used >= whole) return atoi(answer->text + strlen("HTTP/1.1 "));
    }
}

// Looks up a session of which so many writes have been answered, and counts an answer from memory.
static void look_up(int fd, int session, struct answer *answer, long written, atomic_long *from_memory) {
    ask(fd, "GET", "session", session, "");
    if (written) atomic_fetch_add(&checked, 1);
    int status = receive(fd, answer);
    char *revision = strstr(answer->text, "\"revision\":");
    if (status != 200 || !revision) {
        atomic_fetch_add(&failed, 1);
        return;
    }
    if (atol(revision + strlen("\"revision\":")) < written) atomic_fetch_add(&stale, 1);
    if (strcasestr(answer->text, "sezzle-sidecar; hit")) atomic_fetch_add(from_memory, 1);
    if (strcasestr(answer->text, "sezzle-fleet; hit")) atomic_fetch_add(&shared, 1);
}

static int other(unsigned *seed, int than) {
    return (than + 1 + rand_r(seed) % (pods - 1)) % pods;
}

static void *live(void *number) {
    int session = (int)(long)number, connections[MAX_PODS], reader = session % pods;
    unsigned seed = session + 1;
    struct answer *answer = malloc(sizeof *answer);
    check(answer != NULL, "memory");
    for (int pod = 0; pod < pods; pod++) connections[pod] = reach(ports[pod]);
    for (long written = 0; checked < lookups; atomic_fetch_add(&writes, 1)) {
        int writer = other(&seed, reader), early = rand_r(&seed) % 2 ? reader : other(&seed, writer);
        usleep(PAUSE + rand_r(&seed) % MORE_PAUSE);
        atomic_long in_memory = 0;
        look_up(connections[reader], session, answer, written, &in_memory);
        // "hit", or "fwd=uri-miss; fwd-status=200; stored".
        char *status = strcasestr(answer->text, "sezzle-sidecar; "), *end = status ? strstr(status, "\r\n") : NULL;
        char *stored = status ? strstr(status, "; stored") : NULL;
        if (in_memory || (stored && stored < end)) atomic_fetch_add(&primed, 1);

        ask(connections[writer], "PATCH", "order", session, "{}");
        usleep(rand_r(&seed) % MOST_OF_A_WRITE);
        look_up(connections[early], session, answer, written, &hits_during_writes);
        if (receive(connections[writer], answer) != 204) atomic_fetch_add(&failed, 1);
        look_up(connections[reader], session, answer, ++written, &hits);
        reader = other(&seed, reader);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc - 3 > MAX_PODS) {
        fprintf(stderr, "usage: history SESSIONS LOOKUPS PORT PORT PORT...\n");
        return 64;
    }
    int sessions = atoi(argv[1]);
    lookups = atol(argv[2]);
    for (pods = 0; pods < argc - 3; pods++) ports[pods] = atoi(argv[pods + 3]);
    pthread_t *threads = calloc(sessions, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (long i = 0; i < sessions; i++) check(!pthread_create(&threads[i], &attributes, live, (void *)i), "thread");
    for (int i = 0; i < sessions; i++) pthread_join(threads[i], NULL);
    printf("{\"writes\": %ld, \"checked\": %ld, \"primed\": %ld, \"stale\": %ld, \"failed\": %ld, \"hits\": %ld, "
           "\"hits_during_writes\": %ld, \"shared\": %ld}\n", writes, checked, primed, stale, failed, hits, hits_during_writes, shared);
    return failed != 0;
}
