pragma journal_mode = wal;
create table orders (id integer primary key, customer text, amount integer, note text);
insert into orders
  with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
  select i,
         'customer-' || (i * 7919 % 50021),
         i * 31337 % 100003,
         case when i % 5 = 0 then printf('%.*c', i % 300, 'x') end
  from n;
create index orders_by_customer on orders (customer, amount);
select count(*), sum(amount), sum(length(note)) from orders;
select customer, count(*), sum(amount) as total
  from orders group by customer order by total desc, customer limit 25;
select group_concat(id, ' ') from (select id from orders where customer = 'customer-4711' order by id);
update orders set note = customer || note where id % 11 = 0;
delete from orders where amount % 13 = 0;
select a.customer, count(*) from orders a join orders b on b.customer = a.customer and b.amount = a.amount + 1
  group by a.customer order by 2 desc, 1 limit 10;
vacuum;
pragma integrity_check;
select count(*), sum(amount), sum(length(note)), max(customer) from orders;
