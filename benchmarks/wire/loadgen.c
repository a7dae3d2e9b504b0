/* A load generator that knows only where an answer ends.
 *
 *   loadgen ADDRESS PROTOCOL PLAN [option ...]
 *
 * ADDRESS is unix:PATH or tcp:HOST:PORT; PROTOCOL is lines (JSON-RPC), resp (Redis),
 * pg (PostgreSQL), nats or ws (WebSocket). PLAN is a file: either one request a line, each
 * answered by a line, or what benchmarks/wire/loadgen.py writes (see read_plan below).
 *
 *   --connections N   connections, default 1
 *   --in-flight K     requests of each that are under way, default 1: K go out together, and
 *                     the next K when those are answered; with --sliding one for each answer
 *   --seconds S       time that is measured, default 1; --warm-up S before it, default 0.1
 *   --rest US         wait so long before each request that counts, when nothing is under way
 *   --once            send each request of the plan once instead, and stop
 *   --show            as --once, and print the bytes that come instead of figures
 *   --fan-out N ADDRESS PROTOCOL PLAN
 *                     N subscribers more, which send their plan's setup; K writes go out when
 *                     all subscribers have had a message for each of the last K
 *   --pid PID         say what this process used of the CPU for each request (or write)
 *
 * Prints one JSON object. An answer that is an error ends the run with exit code 1; so does a
 * silence of 60 seconds. Requests were made before the clock starts; answers are not kept.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 18, HEAD_BYTES = 160, SILENCE_MS = 60000, EVENTS = 256 };

typedef struct {
    const char *bytes;
    uint32_t length;
    uint16_t units;   /* how many answers the server sends to it */
    uint16_t counted; /* 0: neither its time nor itself */
} Request;

typedef struct {
    const char *setup;
    uint32_t setup_length, setup_units, count;
    Request *requests;
} Plan;

typedef struct Connection Connection;
typedef void Parser(Connection *, const char *, const char *);

struct Connection {
    int fd, is_watched_for_writing;
    Parser *parse;
    const Plan *plan;
    uint32_t next;                     /* request of the plan */
    uint32_t first_awaited, in_flight; /* requests awaited: a stretch of the plan */
    uint64_t units_left;               /* of the first one awaited, or of the setup */
    uint64_t *sent_ns, sent, done;     /* when each under way was sent; how many ever were */
    int is_subscriber, is_set_up;
    /* unsent bytes */
    char *out;
    size_t out_start, out_end, out_size;
    /* what the parser knows of an answer that has come in part */
    char head[HEAD_BYTES];
    uint32_t head_length, need, header_length, marker, events, opcode, is_upgraded;
    uint64_t skip;
    unsigned char header[16];
};

static const char *server = "server";
static char buffer[BUFFER_BYTES];
static uint64_t now_ns, first_ns, last_ns; /* of what is counted */
static uint64_t answered, counted, bytes_in, outstanding;
static uint32_t in_flight = 1, rest_us;
static int is_over, is_once, is_sliding, is_shown, is_fanned_out, epoll;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "loadgen: %s: ", server);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t read_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Times, in buckets that are at most 1/128 of their time wide. */

enum { FINE_BITS = 7, BUCKETS = 64 << FINE_BITS };
static uint64_t buckets[BUCKETS];

static void add_time(uint64_t ns)
{
    unsigned index = ns;
    if (ns >> FINE_BITS) {
        unsigned shift = 63 - __builtin_clzll(ns) - FINE_BITS;
        index = ((shift + 1) << FINE_BITS) + ((ns >> shift) & ((1 << FINE_BITS) - 1));
    }
    buckets[index]++;
}

static double quantile_us(double share)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += buckets[i];
    for (unsigned i = 0; i < BUCKETS; i++)
        if ((seen += buckets[i]) > share * total) {
            unsigned shift = i >> FINE_BITS ? (i >> FINE_BITS) - 1 : 0;
            uint64_t fine = i & ((1 << FINE_BITS) - 1);
            uint64_t ns = i >> FINE_BITS ? ((1ull << FINE_BITS) + fine) << shift : fine;
            return (ns + (1ull << shift) / 2.0) / 1000;
        }
    return 0;
}

/* Connections. */

static void connect_to(Connection *connection, const char *address)
{
    if (!strncmp(address, "unix:", 5)) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        if (strlen(address + 5) >= sizeof name.sun_path)
            fail("path too long: %s", address + 5);
        strcpy(name.sun_path, address + 5);
        connection->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        /* A full backlog refuses a Unix socket's connection at once; it is emptied soon. */
        while (connect(connection->fd, (struct sockaddr *)&name, sizeof name))
            if (errno != EAGAIN)
                fail("cannot connect to %s: %s", address, strerror(errno));
            else
                usleep(1000);
    } else if (!strncmp(address, "tcp:", 4)) {
        char host[64] = "";
        const char *colon = strrchr(address, ':');
        snprintf(host, sizeof host, "%.*s", (int)(colon - address - 4), address + 4);
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
        int on = 1;
        if (inet_pton(AF_INET, host, &name.sin_addr) != 1)
            fail("not an IPv4 address: %s", host);
        connection->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(connection->fd, (struct sockaddr *)&name, sizeof name))
            fail("cannot connect to %s: %s", address, strerror(errno));
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    } else
        fail("no address: %s", address);
    struct timeval silence = {.tv_sec = SILENCE_MS / 1000};
    setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
}

static void watch_writing(Connection *connection, int is_watched)
{
    if (connection->is_watched_for_writing == is_watched)
        return;
    struct epoll_event event = {.events = EPOLLIN | (is_watched ? EPOLLOUT : 0),
                                .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event);
    connection->is_watched_for_writing = is_watched;
}

static void append(Connection *connection, const char *bytes, size_t length)
{
    if (connection->out_end + length > connection->out_size) {
        connection->out_size = 2 * (connection->out_end + length);
        connection->out = realloc(connection->out, connection->out_size);
    }
    if (length)
        memcpy(connection->out + connection->out_end, bytes, length);
    connection->out_end += length;
}

static void flush(Connection *connection)
{
    while (connection->out_start < connection->out_end) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_start,
                            connection->out_end - connection->out_start,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch_writing(connection, 1);
            return;
        }
        if (sent < 0)
            fail("cannot send: %s", strerror(errno));
        connection->out_start += sent;
    }
    connection->out_start = connection->out_end = 0;
    watch_writing(connection, 0);
}

/* Send the next requests of the plan together, as many as may be under way. */
static void send_burst(Connection *connection)
{
    const Plan *plan = connection->plan;
    int is_idle = !connection->in_flight;
    if (rest_us && is_idle && plan->requests[connection->next].counted)
        usleep(rest_us);
    now_ns = read_clock();
    if (is_idle)
        connection->first_awaited = connection->next;
    while (connection->in_flight < in_flight) {
        if (is_once && connection->next == plan->count)
            break;
        const Request *request = &plan->requests[connection->next];
        append(connection, request->bytes, request->length);
        connection->sent_ns[connection->sent++ % in_flight] = now_ns;
        connection->in_flight++;
        if (++connection->next == plan->count && !is_once)
            connection->next = 0;
    }
    if (is_idle && connection->in_flight)
        connection->units_left = plan->requests[connection->first_awaited].units;
    flush(connection);
}

/* One answer, or a subscriber's message, has come whole. */
static void take_unit(Connection *connection)
{
    if (!connection->is_set_up) {
        if (!--connection->units_left)
            connection->is_set_up = 1;
        return;
    }
    if (connection->is_subscriber) {
        outstanding--;
        return;
    }
    if (!connection->in_flight)
        fail("an answer that nobody asked for: %.*s", (int)connection->head_length,
             connection->head);
    if (--connection->units_left)
        return;
    const Request *request = &connection->plan->requests[connection->first_awaited];
    answered++;
    /* An answer that takes longer than all the time there is counts too, once. */
    if (request->counted && !is_fanned_out && now_ns >= first_ns && (!is_over || !counted)) {
        counted++;
        last_ns = now_ns;
        add_time(now_ns - connection->sent_ns[connection->done % in_flight]);
    }
    connection->done++;
    connection->in_flight--;
    if (++connection->first_awaited == connection->plan->count)
        connection->first_awaited = 0;
    if (connection->in_flight)
        connection->units_left = connection->plan->requests[connection->first_awaited].units;
}

/* The protocols: each parser takes bytes as they come and finds the ends of answers. */

static void keep_head(Connection *connection, const char *bytes, size_t length)
{
    size_t room = HEAD_BYTES - connection->head_length;
    if (length > room)
        length = room;
    memcpy(connection->head + connection->head_length, bytes, length);
    connection->head_length += length;
}

static void fail_by_head(Connection *connection)
{
    fail("an error answer: %.*s", (int)connection->head_length, connection->head);
}

static void refuse_json_error(Connection *connection)
{
    /* {"jsonrpc":"2.0","id":…,"error": stands before anything of a value */
    uint32_t length = connection->head_length < 48 ? connection->head_length : 48;
    if (memmem(connection->head, length, "\"error\":{", 9))
        fail_by_head(connection);
}

static const char *skip_bytes(Connection *connection, const char *from, const char *end)
{
    uint64_t length = end - from;
    if (length > connection->skip)
        length = connection->skip;
    connection->skip -= length;
    return from + length;
}

static void parse_lines(Connection *connection, const char *from, const char *end)
{
    while (from < end) {
        const char *newline = memchr(from, '\n', end - from);
        keep_head(connection, from, (newline ? newline : end) - from);
        if (!newline)
            return;
        refuse_json_error(connection);
        take_unit(connection);
        connection->head_length = 0;
        from = newline + 1;
    }
}

/* RESP2: an answer is whole when no element of it is awaited (`need`). */
static void take_resp_line(Connection *connection)
{
    connection->head[connection->head_length < HEAD_BYTES ? connection->head_length
                                                          : HEAD_BYTES - 1] = 0;
    long number = atol(connection->head + 1);
    switch (connection->head[0]) {
    case '+':
    case ':':
        break;
    case '$':
        if (number >= 0)
            connection->skip = number + 2;
        break;
    case '*':
        if (number > 0)
            connection->need += number;
        break;
    default:
        fail_by_head(connection);
    }
    connection->need--;
}

static void parse_resp(Connection *connection, const char *from, const char *end)
{
    while (from < end) {
        if (connection->skip) {
            from = skip_bytes(connection, from, end);
            if (connection->skip)
                return;
        } else {
            if (!connection->need && !connection->head_length)
                connection->need = 1;
            const char *newline = memchr(from, '\n', end - from);
            keep_head(connection, from, (newline ? newline : end) - from);
            if (!newline)
                return;
            take_resp_line(connection);
            connection->head_length = 0;
            from = newline + 1;
        }
        if (!connection->need && !connection->skip)
            take_unit(connection);
    }
}

/* PostgreSQL: a type, a length that counts itself, a body; ReadyForQuery ends an answer. */
static void parse_pg(Connection *connection, const char *from, const char *end)
{
    while (from < end) {
        if (connection->header_length < 5) {
            connection->header[connection->header_length++] = *from++;
            if (connection->header_length < 5)
                continue;
            const unsigned char *size = connection->header + 1;
            connection->skip =
                ((uint64_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3]) - 4;
        }
        const char *rest = skip_bytes(connection, from, end);
        if (connection->header[0] == 'E')
            keep_head(connection, from, rest - from);
        from = rest;
        if (connection->skip)
            return;
        if (connection->header[0] == 'E')
            fail_by_head(connection);
        connection->header_length = 0;
        if (connection->header[0] == 'Z')
            take_unit(connection);
    }
}

static void take_nats_line(Connection *connection)
{
    char *head = connection->head;
    head[connection->head_length < HEAD_BYTES ? connection->head_length : HEAD_BYTES - 1] = 0;
    if (!strncmp(head, "MSG ", 4))
        connection->skip = atol(strrchr(head, ' ') + 1) + 2;
    else if (!strncmp(head, "PONG", 4))
        take_unit(connection);
    else if (!strncmp(head, "PING", 4))
        append(connection, "PONG\r\n", 6), flush(connection);
    else if (strncmp(head, "INFO ", 5) && strncmp(head, "+OK", 3))
        fail_by_head(connection);
}

static void parse_nats(Connection *connection, const char *from, const char *end)
{
    while (from < end) {
        if (connection->skip) {
            from = skip_bytes(connection, from, end);
            if (!connection->skip)
                take_unit(connection);
            continue;
        }
        const char *newline = memchr(from, '\n', end - from);
        keep_head(connection, from, (newline ? newline : end) - from);
        if (!newline)
            return;
        take_nats_line(connection);
        connection->head_length = 0;
        from = newline + 1;
    }
}

/* WebSocket, RFC 6455 §5.2: a server's frames are not masked. The handshake is a unit. */
static const char *parse_upgrade(Connection *connection, const char *from, const char *end)
{
    static const char ending[] = "\r\n\r\n";
    while (from < end && connection->marker < 4) {
        keep_head(connection, from, 1);
        char byte = *from++;
        connection->marker = byte == ending[connection->marker] ? connection->marker + 1
                                                                : byte == '\r';
    }
    if (connection->marker == 4) {
        if (strncmp(connection->head, "HTTP/1.1 101", 12))
            fail_by_head(connection);
        connection->is_upgraded = 1;
        connection->marker = connection->head_length = 0;
        take_unit(connection);
    }
    return from;
}

static uint32_t frame_header_length(const Connection *connection)
{
    uint32_t length = connection->header_length < 2 ? 0 : connection->header[1] & 127;
    return length == 126 ? 4 : length == 127 ? 10 : 2;
}

static void begin_frame(Connection *connection)
{
    const unsigned char *header = connection->header;
    uint32_t length = frame_header_length(connection);
    connection->skip = header[1] & 127;
    if (length > 2)
        connection->skip = 0;
    for (uint32_t i = 2; i < length; i++)
        connection->skip = connection->skip << 8 | header[i];
    connection->opcode = header[0] & 15;
    if (connection->opcode) {
        connection->head_length = connection->events = connection->marker = 0;
    }
}

/* Count the events of an array: a daemon may send those of one commit together. */
static void count_events(Connection *connection, const char *from, const char *end)
{
    static const char marker[] = "\"record.event\"";
    for (; from < end; from++) {
        connection->marker = *from == marker[connection->marker] ? connection->marker + 1
                                                                 : *from == '"';
        if (connection->marker == sizeof marker - 1) {
            connection->events++;
            connection->marker = 0;
        }
    }
}

static void send_pong(Connection *connection)
{
    char frame[6 + HEAD_BYTES] = {(char)0x8a, (char)(0x80 | connection->head_length)};
    memcpy(frame + 6, connection->head, connection->head_length);
    append(connection, frame, 6 + connection->head_length);
    flush(connection);
}

static void end_frame(Connection *connection)
{
    if (connection->opcode == 9)
        send_pong(connection);
    else if (connection->opcode == 8)
        fail("the server closed the WebSocket");
    else if (connection->header[0] & 128) {
        uint32_t units = connection->head[0] == '[' ? connection->events : 1;
        refuse_json_error(connection);
        while (units--)
            take_unit(connection);
    }
}

static void parse_ws(Connection *connection, const char *from, const char *end)
{
    if (!connection->is_upgraded)
        from = parse_upgrade(connection, from, end);
    while (from < end) {
        if (connection->header_length < frame_header_length(connection)) {
            connection->header[connection->header_length++] = *from++;
            if (connection->header_length < frame_header_length(connection))
                continue;
            begin_frame(connection);
        }
        const char *rest = skip_bytes(connection, from, end);
        keep_head(connection, from, rest - from);
        if (connection->head_length && connection->head[0] == '[')
            count_events(connection, from, rest);
        from = rest;
        if (connection->skip)
            return;
        connection->header_length = 0;
        end_frame(connection);
    }
}

static Parser *find_parser(const char *name)
{
    static const struct {
        const char *name;
        Parser *parse;
    } parsers[] = {{"lines", parse_lines}, {"resp", parse_resp}, {"pg", parse_pg},
                   {"nats", parse_nats},   {"ws", parse_ws}};
    for (unsigned i = 0; i < sizeof parsers / sizeof *parsers; i++)
        if (!strcmp(parsers[i].name, name))
            return parsers[i].parse;
    fail("no protocol: %s", name);
}

/* Plans. */

static uint32_t read_number(const char **from)
{
    uint32_t number;
    memcpy(&number, *from, 4);
    *from += 4;
    return number;
}

/* "PLAN", then little-endian words of 32 bits: the setup's answers and length, the setup;
 * the number of requests, and of each its answers, whether it counts, its length, itself. */
static void read_binary_plan(Plan *plan, const char *from)
{
    plan->setup_units = read_number(&from);
    plan->setup_length = read_number(&from);
    plan->setup = from;
    from += plan->setup_length;
    plan->count = read_number(&from);
    plan->requests = calloc(plan->count + 1, sizeof(Request));
    for (uint32_t i = 0; i < plan->count; i++) {
        Request *request = &plan->requests[i];
        request->units = read_number(&from);
        request->counted = read_number(&from);
        request->length = read_number(&from);
        request->bytes = from;
        from += request->length;
    }
}

static void read_line_plan(Plan *plan, const char *from, const char *end)
{
    for (const char *at = from; at < end; at++)
        plan->count += *at == '\n';
    plan->requests = calloc(plan->count + 1, sizeof(Request));
    for (uint32_t i = 0; i < plan->count; i++) {
        const char *newline = memchr(from, '\n', end - from);
        plan->requests[i] = (Request){from, newline + 1 - from, 1, 1};
        from = newline + 1;
    }
}

static Plan *read_plan(const char *path)
{
    Plan *plan = calloc(1, sizeof *plan);
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) || !status.st_size)
        fail("cannot read %s", path);
    const char *bytes =
        mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        fail("cannot map %s", path);
    if (status.st_size > 16 && !memcmp(bytes, "PLAN", 4))
        read_binary_plan(plan, bytes + 4);
    else
        read_line_plan(plan, bytes, bytes + status.st_size);
    return plan;
}

/* The loop. */

static void receive(Connection *connection, int flags)
{
    ssize_t received = recv(connection->fd, buffer, BUFFER_BYTES, flags);
    if (received < 0 && (errno == EAGAIN || errno == EINTR) && flags)
        return;
    if (received < 0)
        fail("no answer: %s", strerror(errno));
    if (!received)
        fail("the server closed the connection");
    now_ns = read_clock();
    bytes_in += received;
    if (is_shown)
        fwrite(buffer, 1, received, stdout);
    connection->parse(connection, buffer, buffer + received);
}

static void handle_event(const struct epoll_event *event)
{
    Connection *connection = event->data.ptr;
    if (event->events & EPOLLOUT)
        flush(connection);
    if (event->events & ~EPOLLOUT)
        receive(connection, MSG_DONTWAIT);
}

/* Wait for bytes and handle them. A single connection with nothing unsent needs no epoll. */
static void turn(Connection *only, void (*then)(Connection *))
{
    struct epoll_event events[EVENTS];
    if (only && !only->out_end) {
        receive(only, 0);
        if (then)
            then(only);
        return;
    }
    int ready = epoll_wait(epoll, events, EVENTS, SILENCE_MS);
    if (!ready)
        fail("no answer for %d s", SILENCE_MS / 1000);
    for (int i = 0; i < ready; i++) {
        handle_event(&events[i]);
        if (then)
            then(events[i].data.ptr);
    }
}

static void set_up(Connection *connections, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        Connection *connection = &connections[i];
        connection->units_left = connection->plan->setup_units;
        connection->is_set_up = !connection->units_left;
        append(connection, connection->plan->setup, connection->plan->setup_length);
        flush(connection);
        while (!connection->is_set_up)
            turn(NULL, NULL);
    }
}

static void go_on(Connection *connection)
{
    if (!is_over && connection->in_flight < (is_sliding ? in_flight : 1))
        send_burst(connection);
}

static void run_load(Connection *connections, uint32_t count, uint64_t end_ns)
{
    uint32_t busy = count;
    for (uint32_t i = 0; i < count; i++)
        send_burst(&connections[i]);
    while (busy) {
        turn(count == 1 ? connections : NULL, go_on);
        is_over = now_ns >= end_ns;
        if (is_over || is_once) {
            busy = 0;
            for (uint32_t i = 0; i < count; i++)
                busy += connections[i].in_flight > 0;
        }
    }
}

/* Write when everybody has had the last; a time is that of a burst until all have had it. */
static void run_fan_out(Connection *writer, uint32_t subscribers, uint64_t end_ns)
{
    while (now_ns < end_ns) {
        outstanding = (uint64_t)subscribers * in_flight;
        send_burst(writer);
        uint64_t sent_ns = writer->sent_ns[writer->done % in_flight];
        while (outstanding || writer->in_flight)
            turn(NULL, NULL);
        if (sent_ns < first_ns)
            memset(buckets, 0, sizeof buckets), counted = 0;
        if (!counted)
            first_ns = sent_ns;
        counted += (uint64_t)subscribers * in_flight;
        last_ns = now_ns;
        add_time(now_ns - sent_ns);
    }
}

static double cpu_seconds_of(long pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file))
        fail("cannot read %s", path);
    fclose(file);
    sscanf(strrchr(line, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
           &system);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static double own_cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec
         + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void allow_files(uint32_t count)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < count + 50) {
        limit.rlim_cur = count + 50 < limit.rlim_max ? count + 50 : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    uint32_t connections = 1, subscribers = 0;
    double seconds = 1, warm_up = 0.1;
    char **fan_out = NULL;
    long pid = 0;
    if (argc < 4)
        fail("usage: loadgen ADDRESS PROTOCOL PLAN [option ...]; see loadgen.c");
    server = argv[1];
    for (int i = 4; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--once")) {
            is_once = 1;
            warm_up = 0;
            continue;
        }
        if (!strcmp(argv[i], "--sliding")) {
            is_sliding = 1;
            continue;
        }
        if (!strcmp(argv[i], "--show")) {
            is_shown = is_once = 1;
            continue;
        }
        if (!strcmp(argv[i], "--connections"))
            connections = atoi(value);
        else if (!strcmp(argv[i], "--in-flight"))
            in_flight = atoi(value);
        else if (!strcmp(argv[i], "--seconds"))
            seconds = atof(value);
        else if (!strcmp(argv[i], "--warm-up"))
            warm_up = atof(value);
        else if (!strcmp(argv[i], "--rest"))
            rest_us = atoi(value);
        else if (!strcmp(argv[i], "--pid"))
            pid = atol(value);
        else if (!strcmp(argv[i], "--fan-out") && i + 4 < argc) {
            subscribers = atoi(value);
            fan_out = argv + i + 2;
            i += 3;
        } else
            fail("no option: %s", argv[i]);
        i++;
    }
    if (!connections || !in_flight || (fan_out && connections != 1))
        fail("connections and requests in flight: at least one; one writer beside subscribers");
    allow_files(connections + subscribers);
    epoll = epoll_create1(0);
    const Plan *plan = read_plan(argv[3]);
    const Plan *following = fan_out ? read_plan(fan_out[2]) : NULL;
    Connection *all = calloc(connections + subscribers, sizeof *all);
    for (uint32_t i = 0; i < connections + subscribers; i++) {
        Connection *connection = &all[i];
        connection->is_subscriber = i >= connections;
        connection->sent_ns = calloc(in_flight, sizeof(uint64_t));
        connection->plan = i < connections ? plan : following;
        connection->parse = find_parser(i < connections ? argv[2] : fan_out[1]);
        connection->next = is_once || !plan->count ? 0 : (uint64_t)i * plan->count / connections;
        connect_to(connection, i < connections ? argv[1] : fan_out[0]);
        set_up(connection, 1);
    }
    if (!plan->count)
        fail("a plan without requests");
    double own = own_cpu_seconds(), theirs = pid ? cpu_seconds_of(pid) : 0;
    uint64_t began_ns = now_ns = read_clock();
    last_ns = first_ns = began_ns + (uint64_t)(warm_up * 1e9);
    uint64_t end_ns = is_once ? UINT64_MAX : first_ns + (uint64_t)(seconds * 1e9);
    is_fanned_out = fan_out != NULL;
    if (is_fanned_out)
        run_fan_out(all, subscribers, end_ns);
    else
        run_load(all, connections, end_ns);
    if (is_shown)
        return 0;
    double elapsed = (last_ns - first_ns) / 1e9;
    uint64_t divisor = answered ? answered : 1;
    printf("{\"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"counted\": %lu, "
           "\"answered\": %lu, \"seconds\": %.4f, \"bytes_in\": %lu, \"own_cpu_us\": %.2f",
           elapsed > 0 ? counted / elapsed : 0, quantile_us(0.5), quantile_us(0.99), counted,
           answered, elapsed, bytes_in, (own_cpu_seconds() - own) * 1e6 / divisor);
    if (pid)
        printf(", \"server_cpu_us\": %.2f", (cpu_seconds_of(pid) - theirs) * 1e6 / divisor);
    puts("}");
    return 0;
}
