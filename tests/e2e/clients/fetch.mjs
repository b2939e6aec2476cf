const headers = { authorization: `Bearer ${process.env.VENDOR_KEY}` };
const answer = await fetch("https://api.example.com/fetch", { method: "POST", body: "body", headers });
process.stdout.write(await answer.text());
