// Writes sessions through one pod of a fleet, looks them up through others, and counts lookups that show an old state.
//
//   history SESSIONS CHECKS PORT PORT PORT...
//
// Each session has a thread with a connection to each pod. A round of it, in this order: a write through one pod; in the
// middle of the write a lookup through another one, which fills caches with the state before the write; the answer to
// the write; at once a lookup through the session's reader, a third pod or the same one. The reader stays for 20 rounds,
// so the state before the write is nearly always in its memory. Ends after so many checked lookups, and prints one JSON
// object.
//
// The gateway is serve.c, whose answers say how many writes the session has had. A lookup that says less than were
// answered before the lookup began is stale.
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

enum { MAX_PODS = 16, MAX_ANSWER = 16384, MAX_REQUEST = 512, ROUNDS_OF_A_READER = 20, MOST_OF_A_WRITE = 90000 };

struct answer {
    char text[MAX_ANSWER];
    size_t used;
};

static int pods, ports[MAX_PODS];
static long checks;
static atomic_long begun, checked, middle, stale, failed, hits, shared, middle_hits;

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

// Reads the answer to a lookup that began when so many writes had been answered. Returns the source in memory, if any.
static void judge(int fd, struct answer *answer, long written, atomic_long *from_memory) {
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
    for (long written = 0; atomic_fetch_add(&begun, 1) < checks;) {
        int writer = other(&seed, reader), early = rand_r(&seed) % 2 ? reader : other(&seed, writer);
        ask(connections[writer], "PATCH", "order", session, "{}");
        usleep(rand_r(&seed) % MOST_OF_A_WRITE);
        ask(connections[early], "GET", "session", session, "");
        judge(connections[early], answer, written, &middle_hits);
        atomic_fetch_add(&middle, 1);
        if (receive(connections[writer], answer) != 204) atomic_fetch_add(&failed, 1);
        written++;
        ask(connections[reader], "GET", "session", session, "");
        judge(connections[reader], answer, written, &hits);
        atomic_fetch_add(&checked, 1);
        if (written % ROUNDS_OF_A_READER == 0) reader = other(&seed, reader);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc - 3 > MAX_PODS) {
        fprintf(stderr, "usage: history SESSIONS CHECKS PORT PORT PORT...\n");
        return 64;
    }
    int sessions = atoi(argv[1]);
    checks = atol(argv[2]);
    for (pods = 0; pods < argc - 3; pods++) ports[pods] = atoi(argv[pods + 3]);
    pthread_t *threads = calloc(sessions, sizeof *threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (long i = 0; i < sessions; i++) check(!pthread_create(&threads[i], &attributes, live, (void *)i), "thread");
    for (int i = 0; i < sessions; i++) pthread_join(threads[i], NULL);
    printf("{\"checked\": %ld, \"during_writes\": %ld, \"stale\": %ld, \"failed\": %ld, \"hits\": %ld, "
           "\"hits_during_writes\": %ld, \"shared\": %ld}\n", checked, middle, stale, failed, hits, middle_hits, shared);
    return failed != 0;
}
