<?php
// Makes the calls of a plan with PHP's curl or with Guzzle, as steps.mjs does with a client for Node.
//
//     php steps.php STACK BASE PLAN FOLDER

const LIMIT = 20;

function with_curl(): Closure
{
    // One handle for all calls, as plugins use it.
    $handle = curl_init();
    return function ($method, $url, $headers, $framing, $body) use ($handle) {
        curl_reset($handle);
        $cache = '';
        curl_setopt_array($handle, [
            CURLOPT_URL => $url,
            CURLOPT_CUSTOMREQUEST => $method,
            // Otherwise curl waits for a body, which an answer to HEAD does not have.
            CURLOPT_NOBODY => $method === 'HEAD',
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => LIMIT,
            CURLOPT_HEADERFUNCTION => function ($handle, $line) use (&$cache) {
                if (stripos($line, 'cache-status:') === 0) {
                    $cache = trim(substr($line, 13));
                }
                return strlen($line);
            },
        ]);
        if ($framing === 'chunked') {
            $headers[] = 'Transfer-Encoding: chunked';
            curl_setopt($handle, CURLOPT_UPLOAD, true);
            curl_setopt($handle, CURLOPT_READFUNCTION, function ($handle, $file, $most) use (&$body) {
                $piece = substr($body, 0, min(7, $most));
                $body = substr($body, strlen($piece));
                return $piece;
            });
        } elseif ($framing !== 'none') {
            curl_setopt($handle, CURLOPT_POSTFIELDS, $body);
        }
        if ($framing === 'expect') {
            $headers[] = 'Expect: 100-continue';
        }
        curl_setopt($handle, CURLOPT_HTTPHEADER, $headers);
        $content = curl_exec($handle);
        if ($content === false) {
            throw new Exception(curl_error($handle), curl_errno($handle));
        }
        return [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $cache, $content];
    };
}

function with_guzzle(): Closure
{
    require_once 'GuzzleHttp/autoload.php';
    $client = new GuzzleHttp\Client(['http_errors' => false, 'timeout' => LIMIT]);
    return function ($method, $url, $headers, $framing, $body) use ($client) {
        $named = [];
        foreach ($headers as $line) {
            [$name, $value] = explode(': ', $line, 2);
            $named[$name] = $value;
        }
        $options = ['headers' => $named, 'expect' => $framing === 'expect'];
        if ($framing === 'chunked') {
            $options['body'] = new GuzzleHttp\Psr7\PumpStream(function ($most) use (&$body) {
                $piece = substr($body, 0, min(7, $most));
                $body = substr($body, strlen($piece));
                return $piece === '' ? false : $piece;
            });
        } elseif ($framing !== 'none') {
            $options['body'] = $body;
        }
        $got = $client->request($method, $url, $options);
        return [$got->getStatusCode(), $got->getHeaderLine('Cache-Status'), (string) $got->getBody()];
    };
}

[, $stack, $base, $plan, $folder] = $argv;
$call = ['curl' => 'with_curl', 'guzzle' => 'with_guzzle'][$stack]();
$token = null;
foreach (file($plan, FILE_IGNORE_NEW_LINES) as $number => $line) {
    [$method, $target, $framing, $key, $body] = explode("\t", $line);
    $headers = ['Accept: application/json'];
    if ($token !== null) {
        $headers[] = "Authorization: Bearer $token";
    }
    if ($key !== '-') {
        $headers[] = "Sezzle-Request-Id: $key";
    }
    if ($framing !== 'none') {
        $headers[] = 'Content-Type: application/json';
    }
    try {
        [$status, $cache, $content] = $call($method, $base . $target, $headers, $framing, $body);
    } catch (Exception $error) {
        echo get_class($error), ' ', $error->getCode(), "\t\n";
        fwrite(STDERR, $error->getMessage() . "\n");
        continue;
    }
    if ($token === null && preg_match('/"token": ?"([^"]+)"/', $content, $found)) {
        $token = $found[1];
    }
    file_put_contents("$folder/$number", $content);
    echo "$status\t$cache\n";
}
