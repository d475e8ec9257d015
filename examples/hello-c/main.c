// Greets whoever calls: the body of the request is standard input, and what is printed is the response.
// The head of the request is in the environment: Http_Method, Http_Path, Http_Query, Http_Content_Type and so on.

#include <stdio.h>

int main(void) {
    char name[256] = "world";
    scanf(" %255[^\r\n]", name);

    // Standard error is its log: `coracle logs hello-c`.
    fprintf(stderr, "greeting %s\n", name);

    printf("Hello, %s!\n", name);
}
