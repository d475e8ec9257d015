// Greets whoever calls: the body of a request is standard input, and what is printed is the response.

#include <stdio.h>

int main(void) {
    char name[256] = "world";
    scanf(" %255[^\r\n]", name);

    // Standard error is the log: `coracle logs hello-c`. The head of the request is in getenv("Http_Method") and its like.
    fprintf(stderr, "greeting %s\n", name);

    printf("Hello, %s!\n", name);
}
