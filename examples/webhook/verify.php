<?php
// Checks that a webhook came through the sidecar.
//
//     php verify.php SECRET_FILE SIGNATURE < body
//
// SIGNATURE is the header Sezzle-Sidecar-Signature, or an empty word if the request has none.

// Whether the sidecar signed these bytes. The body is the raw one, before any JSON parser.
function is_genuine(string $secret, string $body, ?string $signature): bool
{
    return hash_equals(hash_hmac('sha256', $body, $secret), $signature ?? '');
}

if (realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    [, $file, $signature] = $argv;
    $body = file_get_contents('php://stdin');
    if (!is_genuine(trim(file_get_contents($file)), $body, $signature)) {
        fwrite(STDERR, "not signed by the sidecar: answer 401\n");
        exit(1);
    }
    // Every delivery of an event has the same uuid.
    echo json_decode($body)->uuid, "\n";
}
