/* The least that a C program does to fetch credentials: a yardstick for
 * nbidentity. It checks nothing and waits for ever. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char request[] = "GET /v1/credentials HTTP/1.1\r\nHost: nbidentity\r\nConnection: close\r\n\r\n";

int main(int argc, char **argv)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char answer[16384], *body;
	ssize_t n, got = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof at.sun_path)
		return 2;
	strcpy(at.sun_path, argv[1]);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
		return 1;
	if (write(fd, request, sizeof request - 1) < 0)
		return 1;
	while ((n = read(fd, answer + got, sizeof answer - 1 - got)) > 0)
		got += n;
	answer[got] = 0;
	if (strncmp(answer, "HTTP/1.1 200 ", 13) || !(body = strstr(answer, "\r\n\r\n")))
		return 1;
	body += 4;
	n = answer + got - body;
	return write(1, body, n) != n;
}
