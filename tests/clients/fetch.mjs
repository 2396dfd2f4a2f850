// Node's own fetch against every listener: prints one line of JSON with the status of each call, in order.
// Arguments: URLs, each after its method, such as `GET http://127.0.0.1:8080/v2/customer`.

const [, , ...words] = process.argv;
const answers = [];
for (let at = 0; at + 1 < words.length; at += 2) {
  const [method, url] = [words[at], words[at + 1]];
  const body = method === 'GET' ? undefined : '{}';
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  const answer = await fetch(url, { method, headers, body, signal: AbortSignal.timeout(10_000) });
  await answer.text();
  answers.push([answer.status, answer.headers.get('cache-status')]);
}
console.log(JSON.stringify(answers));
